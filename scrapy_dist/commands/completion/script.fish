# What fish completes of `scrapy frontier`. Written by: scrapy frontier completion fish

set -g __scrapy_frontier_valued @valued@

# Whether the subcommand is to be typed.
function __scrapy_frontier_begins
    set -l words (commandline -opc)
    test (count $words) -eq 2; and test "$words[2]" = frontier
end

function __scrapy_frontier_inside
    set -l words (commandline -opc)
    test (count $words) -ge 2; and test "$words[2]" = frontier
end

# Whether a spider is to be typed behind scrapy crawl.
function __scrapy_frontier_crawls
    set -l words (commandline -opc)
    test (count $words) -eq 2; and test "$words[2]" = crawl
end

# Whether the subcommand is $argv[1].
function __scrapy_frontier_is
    set -l words (commandline -opc)
    test (count $words) -ge 3; and test "$words[2]" = frontier; and test "$words[3]" = $argv[1]
end

# Those of the words behind the subcommand that are no options, nor their values.
function __scrapy_frontier_positions
    set -l words (commandline -opc)
    set -l skip 0
    for word in $words[4..-1]
        if test $skip -eq 1
            set skip 0
        else if contains -- $word $__scrapy_frontier_valued
            set skip 1
        else if not string match -q -- '-*' $word
            printf '%s\n' $word
        end
    end
end

# Whether it is $argv[1], and $argv[2] words, or with + at least one, stand behind it.
function __scrapy_frontier_at
    __scrapy_frontier_is $argv[1]; or return 1
    set -l words (commandline -opc)
    test (count $words) -gt 3; and contains -- $words[-1] $__scrapy_frontier_valued; and return 1
    set -l positions (__scrapy_frontier_positions)
    if test $argv[2] = +
        test (count $positions) -ge 1
    else
        test (count $positions) -eq $argv[2]
    end
end

# Names of spiders, jobs, tasks and workers, once a minute.
function __scrapy_frontier_names
    set -l words (commandline -opc)
    set -l at (contains -i -- --redis $words)
    set -l redis
    test -n "$at"; and set redis --redis $words[(math $at + 1)]
    set -l key "$PWD $redis $REDIS_URL"
    set -l now (date +%s)
    if test "$key" != "$__scrapy_frontier_key"; or test $now -ge $__scrapy_frontier_until
        set -g __scrapy_frontier_key $key
        set -g __scrapy_frontier_found ($words[1] frontier completion --names $redis 2>/dev/null </dev/null)
        set -l wait 60
        test (count $__scrapy_frontier_found) -eq 0; and set wait 5
        set -g __scrapy_frontier_until (math $now + $wait)
    end
    printf '%s\n' $__scrapy_frontier_found
end

function __scrapy_frontier_spiders
    for line in (__scrapy_frontier_names)
        set -l part (string split -m 1 ' ' -- $line)
        test "$part[1]" = spider; and printf '%s\n' $part[2]
    end
end

# Names of the kind $argv[1], of the spider that was typed.
function __scrapy_frontier_of_spider
    set -l spider (__scrapy_frontier_positions)[1]
    for line in (__scrapy_frontier_names)
        set -l part (string split -m 2 ' ' -- $line)
        test "$part[1]" = $argv[1]; or continue
        test -z "$spider"; or test "$spider" = "$part[3]"; or continue
        printf '%s\n' $part[2]
    end
end

function __scrapy_frontier_jobs
    __scrapy_frontier_of_spider job
end

function __scrapy_frontier_tasks
    __scrapy_frontier_of_spider task
end

function __scrapy_frontier_workers
    __scrapy_frontier_of_spider worker
end

complete -c scrapy -n __scrapy_frontier_inside -f
complete -c scrapy -n __scrapy_frontier_crawls -f -a '(__scrapy_frontier_spiders)'
complete -c scrapy -n 'test (count (commandline -opc)) -eq 1' -f -a '@scrapy@'
@completions@
