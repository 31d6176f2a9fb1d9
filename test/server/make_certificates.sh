#!/bin/sh
# Makes the throw-away certificates of the Cobot test server, with openssl alone.
#
#   make_certificates.sh DIR
#
# DIR gets (each .pem with a .key of the same name, which only the owner can read):
#   ca.pem         the authority a client should trust
#   server.pem     cobot.me and *.cobot.me, valid for 30 days
#   expired.pem    the same names by the same authority, ended yesterday
#   wronghost.pem  *.example.com by the same authority
#   otherca.pem    the right names, by an authority nobody trusts
#   namesake.pem   the same, by one that has the name of an authority the system trusts,
#                  and nothing else of it; not where the system trusts none
set -eu

if [ $# -ne 1 ]
then
	echo "usage: $0 DIR" >&2
	exit 2
fi

mkdir -p "$1"
cd "$1"
umask 077

work=$(mktemp -d ./work.XXXXXX)
: > "$work/error"
tidy_up()
{
	status=$?
	[ $status -eq 0 ] || cat "$work/error" >&2
	rm -rf "$work"
	exit $status
}
trap tidy_up EXIT

day_from_now()				# "+30" -> the form openssl ca wants
{
	date -u -d "$1 days" +%Y%m%d%H%M%SZ
}

cat > "$work/openssl.cnf" <<END
[ca]
default_ca = throw_away
[throw_away]
database = $work/index.txt
new_certs_dir = $work
rand_serial = yes
default_md = sha256
policy = any_name
unique_subject = no
[any_name]
commonName = supplied
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[cobot]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
authorityKeyIdentifier = none
subjectAltName = DNS:cobot.me, DNS:*.cobot.me
[elsewhere]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:*.example.com
END
: > "$work/index.txt"

new_key()					# FILE
{
	openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2> "$work/error"
}

authority()					# NAME SUBJECT
{
	new_key "$1.key"
	openssl req -x509 -new -key "$1.key" -subj "$2" -days 60 -config "$work/openssl.cnf" \
		-extensions authority -out "$1.pem" 2> "$work/error"
}

certificate()				# NAME AUTHORITY EXTENSIONS FROM_DAY TO_DAY
{
	new_key "$1.key"
	openssl req -new -key "$1.key" -subj "/CN=Cobot test server" -config "$work/openssl.cnf" \
		-out "$work/request.pem" 2> "$work/error"
	openssl ca -batch -notext -config "$work/openssl.cnf" -cert "$2.pem" -keyfile "$2.key" \
		-in "$work/request.pem" -out "$1.pem" -extensions "$3" \
		-startdate "$(day_from_now "$4")" -enddate "$(day_from_now "$5")" 2> "$work/error"
}

authority ca "/CN=Throw-away authority of the Cobot test server"
authority "$work/stranger" "/CN=Authority nobody trusts"
certificate server ca cobot -1 +30
certificate expired ca cobot -10 -1
certificate wronghost ca elsewhere -1 +30
certificate otherca "$work/stranger" cobot -1 +30
for trusted in /etc/ssl/certs/*.0
do
	[ -e "$trusted" ] || break
	openssl x509 -in "$trusted" -noout -text | grep -q 'Public Key Algorithm: rsaEncryption' || continue
	openssl genpkey -algorithm RSA -out "$work/namesake.key" 2> "$work/error"
	openssl x509 -in "$trusted" -signkey "$work/namesake.key" -days 60 -out "$work/namesake.pem" 2> "$work/error"
	certificate namesake "$work/namesake" cobot -1 +30
	break
done
chmod 644 ./*.pem
