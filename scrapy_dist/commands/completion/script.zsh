#compdef scrapy
# What zsh completes of `scrapy frontier`. Written by: scrapy frontier completion zsh

@cases@
# The options of COMMAND, in $options.
_scrapy_frontier_options() {
    case $1 in
@options@
    esac
}

# Names of spiders, jobs, tasks and workers, once a minute; $1 is the Redis that was named.
_scrapy_frontier_ask() {
    local key="$PWD $1 $REDIS_URL"
    if [[ $key == "$_scrapy_frontier_key" ]] && (( SECONDS < _scrapy_frontier_until )); then
        return
    fi
    typeset -g _scrapy_frontier_key=$key _scrapy_frontier_names
    typeset -gi _scrapy_frontier_until
    _scrapy_frontier_names=$(
        ${(Q)words[1]/#\~/$HOME} frontier completion --names ${1:+--redis} ${1:+"$1"} \
            2>/dev/null </dev/null
    )
    (( _scrapy_frontier_until = SECONDS + (${#_scrapy_frontier_names} ? 60 : 5) ))
}

# Offer what $kind says; $spider and $redis were typed before.
_scrapy_frontier_offer() {
    local -a found
    local line
    case $kind in
    spider | job | task | worker)
        _scrapy_frontier_ask "$redis"
        for line in "${(@f)_scrapy_frontier_names}"; do
            [[ $line == "$kind "* ]] || continue
            line=${line#* }
            if [[ $kind != spider ]]; then
                [[ -z $spider || $spider == "${line#* }" ]] || continue
                line=${line%% *}
            fi
            found+=("$line")
        done
        compadd -- "${(@)found}"
        ;;
    file) _files ;;
    words*) compadd -- ${=kind#words} ;;
    esac
}

_scrapy() {
    local kind spider redis word
    local -a commands options
    integer i position=0
    if (( CURRENT == 2 )); then
        compadd -- @scrapy@
        return
    fi
    if [[ $words[2] != frontier ]]; then
        if [[ $words[2] == crawl ]] && (( CURRENT == 3 )); then
            kind=spider
            _scrapy_frontier_offer
        else
            _files
        fi
        return
    fi
    if (( CURRENT == 3 )); then
        commands=(@commands@)
        _describe -t commands 'command' commands
        return
    fi
    for (( i = 4; i < CURRENT; i++ )); do
        word=${(Q)words[i]}
        if [[ $word != -* ]]; then
            (( position++ )) || spider=$word
        elif [[ $word == --redis=* ]]; then
            redis=${word#*=}
        elif _scrapy_frontier_value "$words[3]:$word"; then
            (( i++ ))
            [[ $word == --redis ]] && (( i < CURRENT )) && redis=${(Q)words[i]}
        fi
    done
    if (( i > CURRENT )); then
        _scrapy_frontier_offer
    elif [[ $PREFIX == --*=* ]]; then
        kind=
        _scrapy_frontier_value "$words[3]:${PREFIX%%=*}"
        compset -P 1 '*='
        _scrapy_frontier_offer
    elif [[ $PREFIX == -* ]]; then
        _scrapy_frontier_options "$words[3]"
        _describe -o -t options 'option' options
    else
        kind=
        _scrapy_frontier_place "$words[3]:$position"
        _scrapy_frontier_offer
    fi
}

if [[ $funcstack[1] == _scrapy ]]; then
    _scrapy "$@"
else
    compdef _scrapy scrapy
fi
