# What bash completes of `scrapy frontier`. Written by: scrapy frontier completion bash

_scrapy_frontier_before=$(complete -p scrapy 2>/dev/null)
_scrapy_frontier_before=${_scrapy_frontier_before##* -F }
_scrapy_frontier_before=${_scrapy_frontier_before%% *}
[[ $_scrapy_frontier_before == _scrapy_frontier ]] && _scrapy_frontier_before=

@cases@
# The options of COMMAND, in $kind.
_scrapy_frontier_options() {
    case $1 in
@options@
    esac
}

# Names of spiders, jobs, tasks and workers, once a minute; $1 is the Redis that was named.
_scrapy_frontier_ask() {
    local key="$PWD $1 $REDIS_URL"
    if [[ $key == "$_scrapy_frontier_key" && $SECONDS -lt $_scrapy_frontier_until ]]; then
        return
    fi
    _scrapy_frontier_key=$key
    _scrapy_frontier_names=$(
        "${COMP_WORDS[0]/#\~/$HOME}" frontier completion --names ${1:+--redis "$1"} \
            2>/dev/null </dev/null
    )
    _scrapy_frontier_until=$((SECONDS + ${_scrapy_frontier_names:+55} + 5))
}

# Offer $1, quoted, if it goes on from what was typed.
_scrapy_frontier_offer() {
    local quoted
    printf -v quoted %q "$1"
    [[ $1 == "$cur"* || $quoted == "$cur"* ]] && COMPREPLY+=("$quoted")
}

_scrapy_frontier() {
    local -a words=()
    local i word last=-1 cur kind='' spider='' redis='' position=0 name
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
        kind='words @commands@'
    else
        for ((i = 3; i < last; i++)); do
            word=${words[i]}
            if [[ $word != -* ]]; then
                ((position++)) || spider=$word
            elif _scrapy_frontier_value "${words[2]}:$word"; then
                ((i++))
                [[ $word == --redis && $i -lt $last ]] && redis=${words[i]}
            fi
        done
        if ((i == last)); then
            kind=
            if [[ $cur == -* ]]; then
                _scrapy_frontier_options "${words[2]}"
            else
                _scrapy_frontier_place "${words[2]}:$position"
            fi
        fi
    fi
    case $kind in
    spider | job | task | worker)
        _scrapy_frontier_ask "$redis"
        while read -r word name; do
            [[ $word == "$kind" ]] || continue
            if [[ $kind != spider ]]; then
                [[ -z $spider || $spider == "${name#* }" ]] || continue
                name=${name%% *}
            fi
            _scrapy_frontier_offer "$name"
        done <<<"$_scrapy_frontier_names"
        ;;
    file)
        compopt -o filenames 2>/dev/null
        while IFS= read -r name; do
            COMPREPLY+=("$name")
        done < <(compgen -f -- "$cur")
        ;;
    words*)
        for name in ${kind#words}; do
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
