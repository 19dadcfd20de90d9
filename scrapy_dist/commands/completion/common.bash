# COMMAND|WORD|SHORT|KIND|TEXT: the WORD is empty, an option, or a place: 0, 1, … and * for
# all that follow. The KIND is what comes there, or behind the option.
_scrapy_frontier_table=@table@

# Look for the word $2 of the command $1, and set $kind; false: there is none.
_scrapy_frontier_find() {
    local name word short text
    while IFS='|' read -r name word short kind text; do
        [[ $name == "$1" && ($word == "$2" || $short == "$2") ]] && return
    done <<<"$_scrapy_frontier_table"
    kind=
    return 1
}

# Set $found to NAME:TEXT of the subcommands, or of the options of the command $1.
_scrapy_frontier_list() {
    local name word short kind text
    found=()
    while IFS='|' read -r name word short kind text; do
        if [[ -z $1$word ]]; then
            found+=("$name:$text")
        elif [[ $name == "$1" && $word == -* ]]; then
            found+=("$word:$text")
        fi
    done <<<"$_scrapy_frontier_table"
}

# Set $kind to what comes behind the words $2 … of the command $1, $spider and $redis to what
# was typed; false: the value of an option.
_scrapy_frontier_walk() {
    local name=$1 word
    local -i place=0
    shift
    while (($#)); do
        word=$1
        shift
        if [[ $word != -* ]]; then
            ((place++)) || spider=$word
        elif [[ $word == --redis=* ]]; then
            redis=${word#*=}
        elif _scrapy_frontier_find "$name" "$word" && [[ $kind != flag ]]; then
            (($#)) || return 1
            [[ $word == --redis ]] && redis=$1
            shift
        fi
    done
    _scrapy_frontier_find "$name" "$place" || _scrapy_frontier_find "$name" '*' || kind=
}

# Set $found to the names of that $kind; the program $1 is asked for all of them, once a minute.
_scrapy_frontier_names() {
    local key="$PWD $redis $REDIS_URL" word name
    if [[ $key != "$_scrapy_frontier_key" || $SECONDS -ge $_scrapy_frontier_until ]]; then
        _scrapy_frontier_key=$key
        _scrapy_frontier_known=$(
            "$1" frontier completion --names ${redis:+--redis} ${redis:+"$redis"} \
                2>/dev/null </dev/null
        )
        _scrapy_frontier_until=$((SECONDS + ${_scrapy_frontier_known:+55} + 5))
    fi
    found=()
    while read -r word name; do
        [[ $word == "$kind" ]] || continue
        if [[ $kind != spider ]]; then
            [[ -z $spider || $spider == "${name#* }" ]] || continue
            name=${name%% *}
        fi
        found+=("$name")
    done <<<"$_scrapy_frontier_known"
}
