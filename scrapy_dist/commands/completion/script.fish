# What fish completes of `scrapy frontier`. Written by: scrapy frontier completion fish

# COMMAND|WORD|SHORT|KIND|TEXT: the WORD is empty, an option, or a place: 0, 1, … and * for
# all that follow. The KIND is what comes there, or behind the option.
set -g __scrapy_frontier_table (string split \n -- @table@)

# The KIND of the word $argv[2] of the command $argv[1].
function __scrapy_frontier_find
    # Asked for each word at each TAB, so of the rows only those of the command are cut.
    for row in (string match -- "$argv[1]|*" $__scrapy_frontier_table)
        set -l part (string split -m 4 '|' -- $row)
        if test "$part[1]" = $argv[1]; and contains -- $argv[2] $part[2..3]
            printf '%s\n' "$part[4]"
            return
        end
    end
    return 1
end

# The KIND of what comes behind a subcommand, the spider and the Redis that were typed.
function __scrapy_frontier_walk
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l place 0
    set -l spider ''
    set -l redis ''
    set -l option ''
    for word in $words[4..-1]
        if test -n "$option"
            test $option = --redis; and set redis $word
            set option ''
        else if string match -q -- '--redis=*' $word
            set redis (string replace -- '--redis=' '' $word)
        else if string match -q -- '-*' $word
            set -l kind (__scrapy_frontier_find $words[3] $word); or continue
            test "$kind" = flag; or set option $word
        else
            test $place -eq 0; and set spider $word
            set place (math $place + 1)
        end
    end
    if test -n "$option"
        __scrapy_frontier_find $words[3] $option
    else if string match -q -- '--*=*' $current
        __scrapy_frontier_find $words[3] (string replace -r -- '=.*' '' $current); or echo
    else if string match -q -- '-*' $current
        echo options
    else
        __scrapy_frontier_find $words[3] $place
        or __scrapy_frontier_find $words[3] '*'
        or echo
    end
    printf '%s\n' "$spider" "$redis"
end

# Names of the kind $argv[1], of the spider $argv[2], in the Redis $argv[3]: asked for once a minute.
function __scrapy_frontier_names
    set -l key "$PWD $argv[3] $REDIS_URL"
    set -l now (date +%s)
    if test "$key" != "$__scrapy_frontier_key"; or test $now -ge $__scrapy_frontier_until
        set -l words (commandline -opc)
        set -l redis
        test -n "$argv[3]"; and set redis --redis $argv[3]
        set -g __scrapy_frontier_key $key
        set -g __scrapy_frontier_known ($words[1] frontier completion --names $redis 2>/dev/null </dev/null)
        set -l wait 60
        test (count $__scrapy_frontier_known) -eq 0; and set wait 5
        set -g __scrapy_frontier_until (math $now + $wait)
    end
    for line in $__scrapy_frontier_known
        set -l part (string split -m 1 ' ' -- $line)
        test "$part[1]" = $argv[1]; or continue
        if test $argv[1] != spider
            set part (string split -m 2 ' ' -- $line)
            test -z "$argv[2]"; or test "$argv[2]" = "$part[3]"; or continue
        end
        printf '%s\n' $part[2]
    end
end

# The subcommands, or the options of the command $argv[1], each with its text.
function __scrapy_frontier_list
    for row in $__scrapy_frontier_table
        set -l part (string split -m 4 '|' -- $row)
        if test "$argv[1]$part[2]" = ''
            printf '%s\t%s\n' $part[1] "$part[5]"
        else if test "$part[1]" = "$argv[1]"; and string match -q -- '-*' $part[2]
            for name in $part[2..3]
                test -n "$name"; and printf '%s\t%s\n' $name "$part[5]"
            end
        end
    end
end

# What may come at the cursor.
function __scrapy_frontier
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    if test (count $words) -eq 2
        __scrapy_frontier_list ''
        return
    end
    set -l walked (__scrapy_frontier_walk)
    # What stands before the value in --option=value comes with it.
    set -l before (string match -r -- '^--[^=]*=' $current)
    switch "$walked[1]"
        case options
            __scrapy_frontier_list $words[3]
        case 'words *'
            set -l found (string split ' ' -- $walked[1])
            printf '%s\n' "$before"$found[2..-1]
        case spider job task worker
            printf '%s\n' "$before"(__scrapy_frontier_names $walked)
    end
end

# Whether a file may come at the cursor. fish itself knows ~, quotes and --option=file then.
function __scrapy_frontier_file
    set -l words (commandline -opc)
    test (count $words) -ge 3; and test "$words[2]" = frontier; or return 1
    set -l walked (__scrapy_frontier_walk)
    test "$walked[1]" = file
end

# Whether the subcommand of scrapy is $argv[1].
function __scrapy_frontier_in
    set -l words (commandline -opc)
    test (count $words) -ge 2; and test "$words[2]" = $argv[1]
end

complete -c scrapy -n 'test (count (commandline -opc)) -eq 1' -f -a '@scrapy@'
complete -c scrapy -n '__scrapy_frontier_in frontier' -f -a '(__scrapy_frontier)'
complete -c scrapy -n __scrapy_frontier_file -F
complete -c scrapy -n '__scrapy_frontier_in crawl; and test (count (commandline -opc)) -eq 2' -f -a '(__scrapy_frontier_names spider "" "")'
