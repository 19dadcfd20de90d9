# What bash completes of `scrapy frontier`. Written by: scrapy frontier completion bash

_scrapy_frontier_before=$(complete -p scrapy 2>/dev/null)
_scrapy_frontier_before=${_scrapy_frontier_before##* -F }
_scrapy_frontier_before=${_scrapy_frontier_before%% *}
[[ $_scrapy_frontier_before == _scrapy_frontier ]] && _scrapy_frontier_before=

@common@

_scrapy_frontier() {
    local -a words=() found=()
    local i word last=-1 cur kind='' spider='' redis='' rows='' name
    COMPREPLY=()
    # readline cuts words at colons, which names may have, and at --job=NAME.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if ((last >= 0)) && [[ $word == :* || ${words[last]} == *: ]]; then
            words[last]+=$word
        elif ((last >= 0)) && [[ $word == = && ${words[last]} == --* ]]; then
            ((i == COMP_CWORD)) && words[++last]=
        else
            words[++last]=$word
        fi
    done
    cur=${words[last]}
    if ((last == 1)); then
        if [[ -n $_scrapy_frontier_before ]]; then
            "$_scrapy_frontier_before" "$@"
        else
            kind='words @scrapy@'
        fi
        [[ frontier == "$cur"* ]] && COMPREPLY+=(frontier)
    elif [[ ${words[1]} != frontier ]]; then
        if [[ -n $_scrapy_frontier_before ]]; then
            "$_scrapy_frontier_before" "$@"
            return
        fi
        kind=file
        [[ ${words[1]} == crawl && $last == 2 ]] && kind=spider
    elif ((last == 2)); then
        _scrapy_frontier_commands
    elif _scrapy_frontier_walk "${words[@]:2:last-2}" && [[ $cur == -* ]]; then
        kind=
        _scrapy_frontier_options
    fi
    case $kind in
    spider | job | task | worker)
        _scrapy_frontier_names "${COMP_WORDS[0]/#\~/$HOME}"
        for name in "${found[@]}"; do
            printf -v word %q "$name"
            [[ $name == "$cur"* || $word == "$cur"* ]] && COMPREPLY+=("$word")
        done
        ;;
    file)
        compopt -o filenames 2>/dev/null
        while IFS= read -r name; do
            COMPREPLY+=("$name")
        done < <(compgen -f -- "$cur")
        ;;
    *)
        for name in "${found[@]%%:*}" ${kind#words}; do
            [[ $name == "$cur"* ]] && COMPREPLY+=("$name")
        done
        ;;
    esac
    if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
        word=${cur%"${cur##*:}"}
        for i in "${!COMPREPLY[@]}"; do
            COMPREPLY[i]=${COMPREPLY[i]#"$word"}
        done
    fi
}

complete -F _scrapy_frontier scrapy
