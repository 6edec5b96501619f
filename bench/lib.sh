# shellcheck shell=bash
# What bench/server and bench/cluster share: processes and folders that are gone at the end, clusters
# of tierkvd and of etcd, loads by h2load, rows of the report. To be sourced from the root of the
# repository, after which a script calls lib_open. Functions give numbers back in $result.

program=$(basename "$0")
no_etcd="no etcd (package etcd-server)"
rounds=3 seconds=5 loops=1 logs_to="" output=text disk_iops=0 disk_mib=0

fail() {
    echo "bench/$program: $*" >&2
    exit 1
}

# ------------------------------------------------------------------------------ processes, folders

declare -A pids=()        # Of what runs, by name
declare -A disk_groups=() # Control groups, by the side whose servers are in them
work=""

# lib_open TARGET…: builds those programs, makes the working folder
lib_open() {
    command -v h2load >/dev/null || fail "h2load is missing (package nghttp2-client; or deploy/install bench)"
    if ! { cmake --preset release && cmake --build --preset release --target tierkvd "$@"; } >/dev/null; then
        fail "the build failed: cmake --build --preset release"
    fi
    tierkvd=build/release/src/tierkvd
    have_etcd=true
    command -v etcd >/dev/null || have_etcd=false
    work=$(mktemp -d "${TMPDIR:-/tmp}/tierkv-bench.XXXXXX")
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    bodies
}

cleanup() {
    trap - EXIT INT TERM
    local name
    for name in "${!pids[@]}"; do kill -KILL "${pids[$name]}" 2>/dev/null || true; done
    await_end 10 "${!pids[@]}" || true
    for name in "${disk_groups[@]}"; do rmdir "$name" || true; done
    if [[ -n $logs_to ]]; then
        mkdir -p "$logs_to"
        cp "$work"/*.log "$logs_to"/ 2>/dev/null || true
    fi
    rm -rf "$work"
}

# A port of loopback that nobody listens on, in $port. Each is given out once. Below the range from
# which the kernel takes ports of outgoing connections.
port=$((20000 + RANDOM % 8000))
free_port() {
    for ((port++; port < 32000; port++)); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || return 0
    done
    fail "no free port"
}

# start NAME COMMAND…: in the background, its output in NAME.log
start() {
    local name=$1 group=""
    shift
    if ((disk_iops)); then disk_group "${name%%[0-9]*}" && group=$result; fi
    # A process counts for the group that it is in when it begins.
    (
        if [[ -n $group ]]; then echo "$BASHPID" >"$group/cgroup.procs"; fi
        exec "$@"
    ) >>"$work/$name.log" 2>&1 &
    pids[$name]=$!
    disown # Or bash tells of each one that is killed
}

# await_end SECONDS NAME…: until these processes have ended; 1: not in time
await_end() {
    local deadline=$((SECONDS + $1)) name
    shift
    for name; do
        while kill -0 "${pids[$name]}" 2>/dev/null; do
            ((SECONDS < deadline)) || return 1
            sleep 0.02
        done
        unset "pids[$name]"
    done
}

stop() {
    local name
    for name; do kill -TERM "${pids[$name]}" 2>/dev/null || true; done
    await_end 30 "$@" || fail "$* do not stop"
}

# stop_hard NAME: kill -9
stop_hard() {
    kill -KILL "${pids[$1]}" 2>/dev/null || true
    await_end 30 "$1" || fail "$1 cannot be killed"
}

# until_ok NAME SECONDS URL [TEXT]: waits until URL answers 200 (and the answer has TEXT)
until_ok() {
    local name=$1 deadline=$((SECONDS + $2)) answer
    while ((SECONDS < deadline)); do
        if answer=$(curl -sf -m 2 "$3" 2>/dev/null) && [[ $answer == *"${4:-}"* ]]; then return 0; fi
        if ! kill -0 "${pids[$name]}" 2>/dev/null; then break; fi
        sleep 0.02
    done
    tail -n 20 "$work/$name.log" >&2
    fail "$name is not ready (its last lines are above)"
}

# ------------------------------------------------------------------------------- a slower disk

# The disk below the working folder as MAJOR:MINOR in $result. The limits are on whole disks.
disk_of_work() {
    result=$(findmnt -no MAJ:MIN -T "$work" | tr -d ' ')
    [[ -e /sys/dev/block/$result ]] || fail "a slower disk: $work is on no disk; TMPDIR chooses another folder"
    if [[ -e /sys/dev/block/$result/partition ]]; then result=$(cat "/sys/dev/block/$result/../dev"); fi
}

# disk_limit NAME VALUE: of the control group $group and the disk $disk; as version 2 names it
disk_limit() {
    local file=$group/io.max text="$disk $1=$2"
    if [[ $group == */blkio/* ]]; then
        text="$disk $2"
        case $1 in
        wiops) file=$group/blkio.throttle.write_iops_device ;;
        wbps) file=$group/blkio.throttle.write_bps_device ;;
        rbps) file=$group/blkio.throttle.read_bps_device ;;
        esac
    fi
    echo "$text" >"$file" || fail "the disk $disk cannot be limited"
}

# disk_group SIDE: the control group of a side's processes, in $result; together they may write to the
# disk $disk_iops times, and read and write $disk_mib MiB each, a second; 0: without a limit. Needs root.
disk_group() {
    local side=$1 group disk controllers
    if [[ -z ${disk_groups[$side]:-} ]]; then
        disk_of_work && disk=$result
        if [[ -e /sys/fs/cgroup/blkio/blkio.throttle.write_iops_device ]]; then
            group=/sys/fs/cgroup/blkio/tierkv-bench-$$-$side
        else
            controllers=$(cat /sys/fs/cgroup/cgroup.controllers 2>/dev/null || true)
            [[ " $controllers " == *" io "* ]] || fail "a slower disk: this kernel has no control group for disks"
            echo +io >/sys/fs/cgroup/cgroup.subtree_control || fail "a slower disk needs root"
            group=/sys/fs/cgroup/tierkv-bench-$$-$side
        fi
        mkdir "$group" || fail "a slower disk needs root"
        disk_groups[$side]=$group
        if ((disk_iops)); then disk_limit wiops "$disk_iops"; fi
        if ((disk_mib)); then disk_limit wbps $((disk_mib << 20)) && disk_limit rbps $((disk_mib << 20)); fi
    fi
    result=${disk_groups[$side]}
}

# ------------------------------------------------------------------------------------ clusters

# Starting a cluster sets tierkv_leader or etcd_leader, the leader's client address.
tierkv_nodes=() tierkv_http=() tierkv_raft=() tierkv_flags=()
etcd_nodes=() etcd_client=() etcd_peer=()

# tierkv_lay_out I: gives node I its addresses
tierkv_lay_out() {
    free_port && tierkv_http[$1]=127.0.0.1:$port
    free_port && tierkv_raft[$1]=127.0.0.1:$port
    tierkv_nodes+=("tierkv$1")
}

# tierkv_run I: (re)starts node I as it was laid out, with $tierkv_flags; the first one bootstraps
tierkv_run() {
    local i join=()
    for i in "${!tierkv_http[@]}"; do
        if ((i < $1)); then join[i]=${tierkv_http[i]}; fi
    done
    start "tierkv$1" "$tierkvd" --data-dir "$work/tierkv$1" --node-id "node$1" \
        --http-listen "${tierkv_http[$1]}" --raft-listen "${tierkv_raft[$1]}" --http-loops "$loops" \
        --join "$(IFS=, && echo "${join[*]}")" "${tierkv_flags[@]}"
}

# tierkv_start NODES [FLAG…]
tierkv_start() {
    local n=$1 i
    tierkv_flags=(--log-level warning "${@:2}")
    for ((i = 1; i <= n; i++)); do
        tierkv_lay_out "$i"
        tierkv_run "$i"
        until_ok "tierkv$i" 30 "http://${tierkv_http[i]}/readyz"
    done
    tierkv_find_leader
}

# tierkv_find_leader: waits for one; its number in $tierkv_leader_node
# shellcheck disable=SC2034 # Of the scripts that source this
tierkv_find_leader() {
    local i deadline=$((SECONDS + 30))
    while ((SECONDS < deadline)); do
        for i in "${!tierkv_http[@]}"; do
            if [[ -n ${pids[tierkv$i]:-} ]] &&
                curl -s -m 2 "http://${tierkv_http[i]}/status" | grep -E '"role": *"leader"' >/dev/null; then
                tierkv_leader=${tierkv_http[i]} tierkv_leader_node=$i
                return 0
            fi
        done
        sleep 0.05
    done
    fail "no node says that it is the leader"
}

tierkv_stop() {
    local name running=()
    for name in "${tierkv_nodes[@]}"; do
        if [[ -n ${pids[$name]:-} ]]; then running+=("$name"); fi
    done
    stop "${running[@]}"
    rm -rf "$work"/tierkv[0-9]
    tierkv_nodes=() tierkv_http=() tierkv_raft=()
}

# etcd_run I: (re)starts member I as etcd_start has laid it out
etcd_run() {
    start "etcd$1" env ETCD_UNSUPPORTED_ARCH="$(uname -m)" etcd --name "etcd$1" --data-dir "$work/etcd$1" \
        --listen-client-urls "http://${etcd_client[$1]}" --advertise-client-urls "http://${etcd_client[$1]}" \
        --listen-peer-urls "http://${etcd_peer[$1]}" --initial-advertise-peer-urls "http://${etcd_peer[$1]}" \
        --initial-cluster "$etcd_members" --logger zap --log-level error
}

# etcd_start NODES
etcd_start() {
    local n=$1 i
    etcd_client=() etcd_peer=() etcd_members="" etcd_nodes=()
    for ((i = 1; i <= n; i++)); do
        free_port && etcd_client[i]=127.0.0.1:$port
        free_port && etcd_peer[i]=127.0.0.1:$port
        etcd_members+="${etcd_members:+,}etcd$i=http://${etcd_peer[i]}"
        etcd_nodes+=("etcd$i")
    done
    for ((i = 1; i <= n; i++)); do etcd_run "$i"; done
    for ((i = 1; i <= n; i++)); do until_ok "etcd$i" 30 "http://${etcd_client[i]}/health" '"true"'; done
    etcd_leader=""
    for ((i = 1; i <= n; i++)); do
        if curl -s -m 2 -d '{}' "http://${etcd_client[i]}/v3/maintenance/status" |
            grep -E '"member_id":"([0-9]+)".*"leader":"\1"' >/dev/null; then etcd_leader=${etcd_client[i]}; fi
    done
    [[ -n $etcd_leader ]] || fail "no member of etcd's $n is the leader"
}

etcd_stop() {
    stop "${etcd_nodes[@]}"
    rm -rf "$work"/etcd[0-9]
    etcd_nodes=()
}

# ------------------------------------------------------------------------------------- measuring

# rate FILE…: answers 2xx per second, summed over the outputs of h2load processes that ran together.
# Fails when more than one request in a thousand went wrong: such a figure says nothing.
rate() {
    awk '
        FNR == 1 { files++ }
        /^finished in/ { rate = $4 }
        /^requests:/ { total = $2; done = $6; errored = $10 + $12 + $14 }
        /^status codes:/ {
            ok = $3; other = $5 + $7 + $9
            if (done == 0 || ok * 1000 < (ok + other + errored) * 999) {
                printf "of %d requests %d succeeded, %d were refused, %d failed\n",
                    total, ok, other, errored > "/dev/stderr"
                bad = 1
            } else sum += rate * ok / done
            counted++
        }
        END { if (bad || counted != files || files == 0) exit 1; printf "%.0f\n", sum }' "$@"
}

# load IN_FLIGHT OPTION… URL: one h2load process, its rate in $result
load() {
    local in_flight=$1 clients=8 streams
    shift
    ((in_flight >= 8)) || clients=1
    streams=$((in_flight / clients))
    # Bounded: measuring and warming up, and as much again for a slow start.
    timeout $((2 * seconds + 30)) h2load -t 1 -c "$clients" -m "$streams" -D "$seconds" --warm-up-time 1 \
        "$@" >"$work/load" 2>&1 || fail "h2load failed: $(tail -n 3 "$work/load")"
    result=$(rate "$work/load") || fail "h2load $*: $(grep -E '^(requests|status)' "$work/load" | tr '\n' ' ')"
}

# load_etcd IN_FLIGHT METHOD BODY
load_etcd() {
    local in_flight=$1 method=$2 body=$3
    load "$in_flight" -d "$body" -H 'content-type: application/grpc' -H 'te: trailers' \
        "http://$etcd_leader/etcdserverpb.KV/$method"
}

# The gRPC status comes in a trailer that h2load does not look at, so one request is checked alone.
etcd_check() {
    curl -sv -m 5 --http2-prior-knowledge -H 'content-type: application/grpc' -H 'te: trailers' \
        --data-binary "@$2" -o /dev/null "http://$etcd_leader/etcdserverpb.KV/$1" 2>&1 |
        grep -i '^< grpc-status: 0' >/dev/null || fail "etcd refused a $1"
}

byte() { printf '%b' "\\x$(printf '%02x' "$1")"; }

# bodies: the files that requests carry. A gRPC message is 0, its length in four bytes, the message;
# PutRequest has key = 1 and value = 2, RangeRequest has key = 1.
bodies() {
    local key=bench-key value
    value=$(printf 'v%.0s' $(seq 256))
    printf '%s' "$value" >"$work/value"
    { byte 10 && byte ${#key} && printf '%s' "$key"; } >"$work/range.message"
    { cat "$work/range.message" && byte 18 && byte 128 && byte 2 && printf '%s' "$value"; } >"$work/put.message"
    local message bytes
    for message in range put; do
        bytes=$(stat -c %s "$work/$message.message")
        { byte 0 && byte 0 && byte 0 && byte $((bytes / 256)) && byte $((bytes % 256)) &&
            cat "$work/$message.message"; } >"$work/$message"
    done
}

median() { printf '%s\n' "$@" | sort -g | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

# ---------------------------------------------------------------------------------------- reporting

missed=0 rows=()

# begin_report SENTENCE…: what was measured and how, then the head of the table
begin_report() {
    about=("$@")
    if [[ $output == json ]]; then return; fi
    printf '%s\n' "$@"
    row figure ours baseline ratio target ""
}

# row NAME OURS BASELINE RATIO TARGET VERDICT; what is empty is not there
row() {
    if [[ $output == text ]]; then
        printf '%-64s %10s %10s %7s %7s  %s\n' "$@"
        return
    fi
    local name=$1
    name=${name#"${name%%[! ]*}"}
    rows+=("$(printf '{"figure":"%s","ours":%s,"baseline":%s,"ratio":%s,"target":"%s","verdict":"%s"}' \
        "$name" "${2:-null}" "${3:-null}" "${4:-null}" "$5" "$6")")
}

# verdict RATIO TARGET [at-most], in $result
verdict() {
    result=$(awk -v r="$1" -v t="$2" -v most="${3:-}" 'BEGIN { print ((most ? r <= t : r >= t) ? "ok" : "missed") }')
    [[ $result == ok ]] || missed=$((missed + 1))
}

# compare NAME OURS BASELINE TARGET [at-most]: one row; OURS / BASELINE against the target
compare() {
    local ratio
    ratio=$(awk -v a="$2" -v b="$3" 'BEGIN { printf "%.2f", (b > 0 ? a / b : 0) }')
    verdict "$ratio" "$4" "${5:-}"
    row "$1" "$2" "$3" "$ratio" "${5:+<= }$4" "$result"
}

# note TEXT: a line below a row
note() {
    if [[ $output == text ]]; then echo "    ($*)"; else about+=("$*"); fi
}

# end_report: 1 if a figure missed its target
end_report() {
    if [[ $output == json ]]; then
        print_json
    elif ((missed)); then
        echo "$missed missed"
    fi
    ((missed == 0))
}

# Of its own: bash 5.2 does not survive an exit from a function that has made IFS local, if there is
# a trap for exits.
print_json() {
    local IFS=, line lines=()
    for line in "${about[@]}"; do lines+=("\"${line//\"/\\\"}\""); done
    printf '{"about":[%s],"missed":%d,"figures":[%s]}\n' "${lines[*]}" "$missed" "${rows[*]}"
}

# The machine and the versions, in $result
versions() {
    local ours etcd=$no_etcd
    ours=$("$tierkvd" --version)
    if $have_etcd; then etcd=$(etcd --version) && etcd=${etcd%%$'\n'*}; fi
    result="$(nproc) cores, $(uname -r), $ours, $etcd"
}

# ------------------------------------------------------------------------- measured by both scripts

# compare_consistent IN_FLIGHT=TARGET…: consistent GET against etcd's linearizable Range, 3 nodes
compare_consistent() {
    local round pair in_flight name
    declare -A ours_at=() base_at=()
    tierkv_start 3
    curl -sf -X PUT --data-binary "@$work/value" "http://$tierkv_leader/key/hot" >/dev/null || fail "PUT of the hot key failed"
    if $have_etcd; then etcd_start 3 && etcd_check Put "$work/put" && etcd_check Range "$work/range"; fi
    for ((round = 0; round < rounds; round++)); do
        for pair; do
            in_flight=${pair%=*}
            load "$in_flight" "http://$tierkv_leader/key/hot?raw&level=consistent" && ours_at[$in_flight]+=" $result"
            if $have_etcd; then load_etcd "$in_flight" Range "$work/range" && base_at[$in_flight]+=" $result"; fi
        done
    done
    tierkv_stop
    if $have_etcd; then etcd_stop; fi
    for pair; do
        in_flight=${pair%=*}
        name="(c) GET consistent, nodes 3, in flight $in_flight, /s"
        # shellcheck disable=SC2086 # Words of a list
        if $have_etcd; then
            compare "$name" "$(median ${ours_at[$in_flight]})" "$(median ${base_at[$in_flight]})" "${pair#*=}"
        else
            row "$name" "$(median ${ours_at[$in_flight]})" "" "" "" "$no_etcd"
        fi
    done
}
