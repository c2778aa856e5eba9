#!/bin/sh
# test_llama_arm.sh - bench/llama_arm and suite engines, with a server that speaks llama.cpp's protocol and
# fails on demand (tests/fake_llama_server.py).
set -u
. "$TEST_SRCDIR/tests/bench_lib.sh"
fake_engine
json=$scratch/json
pid=$scratch/pid
server=$scratch/llama-server
printf '#!/bin/sh\nexec python3 "%s/tests/fake_llama_server.py" "$@"\n' "$TEST_SRCDIR" >"$server"
chmod +x "$server"

# arm MODE [ARGUMENTS...]: one completion by a server in that mode.
arm() {
    mode=$1
    shift
    rm -f "$json" "$pid"
    bench llama_arm --server "$server" -m M.gguf -p "Some prompt" -n 4 --report "$json" "$@" \
        -- --fake "$mode" --pid "$pid"
}

# The server of the last arm had begun, and is no more.
server_gone() {
    [ -s "$pid" ] && ! kill -0 "$(cat "$pid")" 2>/dev/null
}

fails_and_tidies() {
    status_is 1 "$@" && server_gone && [ ! -e "$json" ]
}

arm ok
check "an answer becomes a report: tokens, counts, rates as mtpgen defines them" json_is "$json" '
assert data["tokens"] == [2, 3, 4, 5] and data["n_tokens"] == 4, data
assert data["prompt_tokens"] == 5 and data["drafted"] is None, data
assert abs(data["timing"]["decode_tok_s"] - 100) < 1e-9, data["timing"] # 3 tokens in 30 ms
assert abs(data["timing"]["prefill_tok_s"] - 100) < 1e-9, data["timing"]
assert data["llama_timings"]["predicted_n"] == 4, data'
check "its text goes to standard output" status_is 0 'its text'
check "the server is ended" server_gone
check "where it computes is the server's choice" json_is "$json" '
assert "-ngl" not in data["llama_timings"]["arguments"] and data["options"]["device"] is None, data'
for device in cuda cpu; do
    arm ok --device $device
    check "unless the device is named: $device" json_is "$json" '
arguments = data["llama_timings"]["arguments"]
assert arguments[arguments.index("-ngl") + 1] == {"cuda": "99", "cpu": "0"}["'$device'"], arguments
assert data["options"]["device"] == "'$device'", data["options"]'
done
arm stubborn
check "a server that will not end is made to" server_gone
check "and its answer counts" json_is "$json" 'assert data["n_tokens"] == 4'

arm dies
check "a server that dies is said to have, with its last words" fails_and_tidies \
    'the server ended with status 4' 'cannot load the model'
arm sick --wait 0.5
check "a server that never gets healthy is given up" fails_and_tidies 'not healthy after 0.5 s'
arm hangs --answer-wait 0.5
check "a server that never answers is given up" fails_and_tidies 'gave no answer'
arm quits
check "a server that dies while it answers is said to have" fails_and_tidies \
    'the server ended with status 3' 'out of ideas'
arm garbage
check "an answer that is not JSON is an error" fails_and_tidies 'not JSON'
arm bare
check "an answer without timings is an error" fails_and_tidies 'no timings'
arm silent
check "an answer without tokens is an error" fails_and_tidies 'no tokens'
arm refuses
check "a refusal is passed on" fails_and_tidies 'status 500' 'no such slot'
bench llama_arm --server /no/such/server -m M -p x -n 4 --report "$json"
check "a server that cannot start is named" status_is 1 '/no/such/server'

# ended SIGNAL STATUS: while the server works, the arm is sent the signal.
ended() {
    rm -f "$pid"
    python3 -c '
import signal, subprocess, sys, time, os
process = subprocess.Popen([sys.executable] + sys.argv[4:])
while not (os.path.exists(sys.argv[1]) and os.path.getsize(sys.argv[1])):
    time.sleep(0.02)
time.sleep(0.3)
process.send_signal(getattr(signal, sys.argv[2]))
sys.exit(process.wait(20) != int(sys.argv[3]))' "$pid" "$1" "$2" "$TEST_SRCDIR/bench/llama_arm" \
        --server "$server" -m M -p x -n 4 --report "$json" -- --fake hangs --pid "$pid" && server_gone
}
check "Ctrl-C ends arm and server" ended SIGINT 130
check "so does SIGTERM" ended SIGTERM 143

rm -f "$pid"
bench ab --arm "a=echo x" --arm "b='$TEST_SRCDIR/bench/llama_arm' --server '$server' -m M -p x -n 4 \
    --report {report} -- --fake hangs --pid '$pid'" --timeout 2
check "an arm that takes too long is stopped with its server" status_is 1 'arm b: ' 'timed out'
check "which is gone" server_gone

engines() {
    bench ab --suite engines --engine "$engine" --model M.gguf -n 8 --rounds 2 --json "$json" \
        --prompt "A prompt" --threads 2 --llama-server "$server" "$@"
}
engines
check "suite engines: mtpgen plain and auto, llama.cpp plain and with MTP" json_is "$json" '
arms = {a["name"]: a for a in data["arms"]}
assert list(arms) == ["mtpgen plain", "mtpgen auto", "llama.cpp plain", "llama.cpp MTP"], arms
assert arms["mtpgen auto"]["command"][-2:] == ["--draft", "auto"], arms
assert arms["llama.cpp MTP"]["command"][-4:] == [
    "--spec-type", "draft-mtp", "--spec-draft-n-max", "3"], arms
assert abs(arms["llama.cpp plain"]["median"] - 100) < 1e-9, arms
assert abs(arms["llama.cpp MTP"]["against_ratio"] - 0.5) < 1e-9, arms'
check "tokens of the other engine may differ, which the table states" status_is 0 \
    '| 4 of 6 | may differ: token 7 is the first that differs (of 8 and 8) |' \
    '1.198 (1.198 .. 1.198) to llama.cpp plain'
engines --device cuda
check "with --device cuda all engines compute there, and the table says so" json_is "$json" '
for arm in data["arms"]:
    command = arm["command"]
    assert command[command.index("--device") + 1] == arm["device"] == "cuda", arm
assert "--" in data["arms"][3]["command"], data["arms"][3]'
check "in a column of its own" status_is 0 '| arm | device |' '| llama.cpp plain | cuda |' '| mtpgen auto | cuda |'
engines --llama-args '--fake garbage'
check "an engine that fails ends the comparison" status_is 1 'arm llama.cpp plain: exit status 1' 'not JSON'
finish
