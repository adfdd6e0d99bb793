# What the examples of the documentation run in; see doc.go. DOC is a directory for notes, LINES_SHOWN how many lines the
# page shows of a stream.
. "$DOC/vars"

curl() {
    code=0
    case " $* " in
    *" -N "*) stream "$@" || code=$? ;;
    *) command curl -sS -D "$DOC/head" "$@" >"$DOC/body" || code=$? ;;
    esac
    tr -d '\r' <"$DOC/body"
    case " $* " in
    *" -f "* | *" -sf "*) ;;
    *) sed -n 's/^HTTP[^ ]* \([45][0-9][0-9]\).*/\1/p' "$DOC/head" >>"$DOC/refused" ;;
    esac
    if grep -q '"secret":' "$DOC/body"; then
        ID=$(sed -n 's/.*"id":"\([^"]*\)".*/\1/p' "$DOC/body")
        SECRET=$(sed -n 's/.*"secret":"\([^"]*\)".*/\1/p' "$DOC/body")
        echo "ID='$ID' SECRET='$SECRET'" >"$DOC/vars"
    fi
    return $code
}

# stream reads until as much has come as is shown, and ends the stream then.
stream() {
    : >"$DOC/body"
    command curl -sS -D "$DOC/head" "$@" >"$DOC/body" &
    pid=$!
    while kill -0 $pid 2>/dev/null && [ "$(wc -l <"$DOC/body")" -lt "$LINES_SHOWN" ]; do sleep 0.02; done
    kill $pid 2>/dev/null || true
    wait $pid || true
    head -n "$LINES_SHOWN" "$DOC/body" >"$DOC/shown"
    mv "$DOC/shown" "$DOC/body"
    [ -s "$DOC/body" ]
}

