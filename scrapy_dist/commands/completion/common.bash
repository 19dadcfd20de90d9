# COMMAND|WORD|SHORT|KIND|TEXT: the WORD is empty, an option, or a place: 0, 1, … and * for
# all that follow. The KIND is what comes there, or behind the option.
_scrapy_frontier_table=@table@

# Set $rows to those of the command $1, without its name. The table takes a while to read.
_scrapy_frontier_rows() {
    local row
    rows=
    while IFS= read -r row; do
        [[ $row == "$1|"* ]] && rows+=${row#*|}$'\n'
    done <<<"$_scrapy_frontier_table"
}

# Look for the word $1 in $rows, and set $kind; false: there is none.
_scrapy_frontier_find() {
    local word short text
    while IFS='|' read -r word short kind text; do
        [[ $word == "$1" || $short == "$1" ]] && return
    done <<<"$rows"
    kind=
    return 1
}

# Set $found to NAME:TEXT of the subcommands.
_scrapy_frontier_commands() {
    local name word short kind text
    found=()
    while IFS='|' read -r name word short kind text; do
        [[ -n $word ]] || found+=("$name:$text")
    done <<<"$_scrapy_frontier_table"
}

# Set $found to NAME:TEXT of the options in $rows.
_scrapy_frontier_options() {
    local word short kind text
    found=()
    while IFS='|' read -r word short kind text; do
        [[ $word == -* ]] && found+=("$word:$text")
    done <<<"$rows"
}

# Set $kind to what comes behind the words $2 … of the command $1, whose $rows are read then,
# $spider and $redis to what was typed; false: the value of an option.
_scrapy_frontier_walk() {
    local word
    local -i place=0
    _scrapy_frontier_rows "$1"
    shift
    while (($#)); do
        word=$1
        shift
        if [[ $word != -* ]]; then
            ((place++)) || spider=$word
        elif [[ $word == --redis=* ]]; then
            redis=${word#*=}
        elif _scrapy_frontier_find "$word" && [[ $kind != flag ]]; then
            (($#)) || return 1
            [[ $word == --redis ]] && redis=$1
            shift
        fi
    done
    _scrapy_frontier_find "$place" || _scrapy_frontier_find '*' || kind=
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
