# hnet.sh - this project as systems of peers.sh: hnet (the cipher that two daemons agree on), hnet-chacha, hnet-aes, and hnet-nocipher, the same
# pipeline without a cipher, which is what everything else costs. HNET_BIN holds the programs; see main.go beside this file.
HNET_BIN=${HNET_BIN:-$BIN}

up_hnet_as() { # program cipher
  local s o
  for s in A B; do mkdir -p "$W/hnet$s"
    printf 'hosts_file: ""\nport_mapping: false\ncipher: %s\ndds: {enabled: %s}\n' "$2" "${HNET_DDS:-false}" >"$W/hnet$s/config.yaml"
    start $s hnet env GOMAXPROCS="${HNET_PROCS:-}" "$HNET_BIN/$1" --config "$W/hnet$s/config.yaml" --state "$W/hnet$s/state" --run "$W/hnet$s/run"; done
  for s in A B; do nsx $s "$HNET_BIN/hnet" --run "$W/hnet$s/run" wait daemon --timeout 20s >/dev/null || return 1; done
  TA=$(nsx A "$HNET_BIN/hnet" --run "$W/hnetA/run" --json id | jq -r .address) TB=$(nsx B "$HNET_BIN/hnet" --run "$W/hnetB/run" --json id | jq -r .address)
  nsx A "$HNET_BIN/hnet" --run "$W/hnetA/run" whitelist add "$TB" >/dev/null && nsx B "$HNET_BIN/hnet" --run "$W/hnetB/run" whitelist add "$TA" >/dev/null; }

up_hnet() { up_hnet_as hnetd auto; }
up_hnet-chacha() { up_hnet_as hnetd chacha20poly1305; }
up_hnet-aes() { up_hnet_as hnetd aes256gcm; }
up_hnet-nocipher() { up_hnet_as hnetd-nocipher auto; }
bin_hnet() { echo "$HNET_BIN/hnetd"; }
