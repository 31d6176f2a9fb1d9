/*
 * unit_address.c
 *	  What http_address.h promises: the first and the last address of each private range
 *	  are private, their neighbours are not, and no wrapping hides one.
 */
#include "postgres_fe.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "http_address.h"
#include "tap.h"

static bool
is_private(const char *text)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
		return http_address_is_private((struct sockaddr *) &v4);
	if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1)
		return http_address_is_private((struct sockaddr *) &v6);
	printf("Bail out! no address: %s\n", text);
	exit(1);
}

int
main(void)
{
	static const char *const private[] = {
		"0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255", "127.0.0.1", "127.255.255.255",
		"169.254.0.0", "169.254.169.254", "169.254.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0", "192.168.255.255",
		"192.0.0.0", "192.0.0.192", "192.0.0.255", "192.0.2.0", "192.0.2.255", "198.18.0.0", "198.19.255.255", "198.51.100.0",
		"198.51.100.255", "203.0.113.0", "203.0.113.255", "224.0.0.1", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.1.2.3", "::ffff:169.254.169.254", "64:ff9b::192.168.1.1", "64:ff9b::7f00:1",
		"64:ff9b:1::1", "2001::1", "2001:0:7f00:1::", "2001:1ff::1", "2001:db8::1", "2001:db8:ffff::1", "2002:7f00:1::", "2002:c0a8:101::1", "fc00::1", "fdff::1", "fe80::1", "fec0::1", "ff02::1", "4000::1"
	};
	static const char *const public[] = {
		"1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255",
		"169.255.0.0", "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0", "192.0.3.0", "192.167.255.255", "192.169.0.0",
		"198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255", "8.8.8.8",
		"::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2001:200::1", "2001:db7::1", "2001:db9::1", "2002:808:808::1", "2606:4700::6810:1", "2a00:1450::1", "3fff::1"
	};
	struct sockaddr_un local = {.sun_family = AF_UNIX};

	for (size_t i = 0; i < lengthof(private); i++)
		ok(is_private(private[i]), "private: %s", private[i]);
	for (size_t i = 0; i < lengthof(public); i++)
		ok(!is_private(public[i]), "public: %s", public[i]);
	ok(http_address_is_private((struct sockaddr *) &local), "another kind of address is refused");
	return done_testing();
}
