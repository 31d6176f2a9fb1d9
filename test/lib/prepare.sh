# prepare.sh
#	Sourced by the commands behind "make test", "make demo" and "make bench".
#	Gives them, on a fresh Debian 12 and from any clone:
#
#	  prepare NAME [PACKAGE ...]   a folder $WORK with a copy of the source, built, and a
#	                               private copy of the packaged server in which the
#	                               extension is installed; nothing of the system changes
#	  as_runner COMMAND ...        runs a command as the unprivileged user $RUNNER, with
#	                               the private server first on PATH
#
#	PostgreSQL refuses to run as root, and the clone may lie where nobody else can
#	read: that is why the source is copied. $WORK is removed at exit, unless KEEP=1.

PG_MAJOR=15
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

BUILD_PACKAGES="gcc make libc6-dev postgresql-$PG_MAJOR postgresql-server-dev-$PG_MAJOR
	libcurl4-openssl-dev libcjson-dev libssl-dev libmicrohttpd-dev zlib1g-dev openssl perl tzdata"

say() { printf '%s\n' "$*" >&2; }

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"
	elif command -v sudo >/dev/null; then sudo "$@"
	else say "Missing Debian packages, and neither root nor sudo to install them: $*"; return 1
	fi
}

# Installs what is missing of the packages named; asks the network only then.
install_packages() {
	local missing=() package
	for package in "$@"; do
		dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
	done
	[ ${#missing[@]} -eq 0 ] && return
	say "Installing Debian packages: ${missing[*]}"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update >&2
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
}

# A copy of the packaged server that "make install" may write to. PostgreSQL finds
# its files relative to its programs, so a copy needs no configuration.
copy_server() {
	mkdir -p "$WORK/usr/lib/postgresql" "$WORK/usr/share/postgresql"
	cp -a "/usr/lib/postgresql/$PG_MAJOR" "$WORK/usr/lib/postgresql/"
	cp -aL "/usr/share/postgresql/$PG_MAJOR" "$WORK/usr/share/postgresql/"
	ln -s /usr/include "$WORK/usr/include"
	BINDIR=$WORK/usr/lib/postgresql/$PG_MAJOR/bin
}

as_runner() {
	local command=(env "PATH=$BINDIR:$PATH" "PG_CONFIG=$BINDIR/pg_config" "HOME=$WORK" LC_ALL=C.UTF-8 TZ=UTC "$@")
	if [ "$(id -u)" = 0 ]; then (cd "$WORK" && runuser -u "$RUNNER" -- "${command[@]}")
	else (cd "$WORK" && "${command[@]}")
	fi
}

remove_work() {
	if [ -n "${KEEP:-}" ]; then say "Kept: $WORK"
	else rm -rf -- "$WORK"
	fi
}

prepare() {
	local name=$1
	shift
	install_packages $BUILD_PACKAGES "$@"

	WORK=$(mktemp -d "/tmp/smartspace_cobot_$name.XXXXXX")
	trap remove_work EXIT
	trap 'exit 130' INT TERM
	RUNNER=$(id -un)
	[ "$(id -u)" = 0 ] && RUNNER=postgres

	mkdir "$WORK/source"
	tar -C "$ROOT" --exclude=./.git --exclude='*.o' --exclude='*.bc' --exclude='*.so' \
		--exclude=cobot_test_server --exclude=./test/fuzz/corpus -cf - . | tar -C "$WORK/source" -xf -
	copy_server
	[ "$(id -u)" = 0 ] && chown -R "$RUNNER:" "$WORK"

	say "Building ..."
	if ! as_runner make -C source -s PG_CONFIG="$BINDIR/pg_config" install >"$WORK/build.log" 2>&1 ||
		! as_runner make -C source/test/server -s >>"$WORK/build.log" 2>&1; then
		cat "$WORK/build.log" >&2
		return 1
	fi
}
