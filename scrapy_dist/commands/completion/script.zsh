#compdef scrapy
# What zsh completes of `scrapy frontier`. Written by: scrapy frontier completion zsh

typeset -g _scrapy_frontier_table _scrapy_frontier_key _scrapy_frontier_known
typeset -gi _scrapy_frontier_until

@common@

_scrapy() {
    local kind spider redis rows
    local -a found before
    before=("${(@Q)words[3,CURRENT-1]}")
    if (( CURRENT == 2 )); then
        kind='words @scrapy@'
    elif [[ $words[2] != frontier ]]; then
        kind=file
        [[ $words[2] == crawl ]] && (( CURRENT == 3 )) && kind=spider
    elif (( CURRENT == 3 )); then
        _scrapy_frontier_commands
        _describe -t commands 'command' found
    elif _scrapy_frontier_walk "${(@)before}" && [[ $PREFIX == -* ]]; then
        if [[ $PREFIX == --*=* ]]; then
            _scrapy_frontier_find "${PREFIX%%=*}"
            compset -P 1 '*='
        else
            kind=
            _scrapy_frontier_options
            _describe -o -t options 'option' found
        fi
    fi
    case $kind in
    spider | job | task | worker)
        _scrapy_frontier_names ${(Q)words[1]/#\~/$HOME}
        compadd -- "${(@)found}"
        ;;
    file) _files ;;
    words*) compadd -- ${=kind#words} ;;
    esac
}

if [[ $funcstack[1] == _scrapy ]]; then
    _scrapy "$@"
else
    compdef _scrapy scrapy
fi
