/*
 * http_address.c
 *	  Where a connection may lead. Whoever controls a name can let it lead anywhere, to
 *	  another address for each look-up, so it is the address that is looked at, and at
 *	  the moment when the socket is made for it.
 */
#ifndef FRONTEND
#include "postgres.h"
#else
#include "postgres_fe.h"
#endif

#include <netinet/in.h>

#include "http_address.h"

static bool
is_private_v4(uint32 address)
{
	static const struct
	{
		uint32		network;
		int			bits;
	}			private[] = {
		{0x00000000, 8},		/* this host */
		{0x0A000000, 8},		/* 10/8 */
		{0x64400000, 10},		/* 100.64/10 */
		{0x7F000000, 8},		/* loopback */
		{0xA9FE0000, 16},		/* link local */
		{0xAC100000, 12},		/* 172.16/12 */
		{0xC0000000, 24},		/* protocol assignments; a cloud's metadata, too */
		{0xC0000200, 24},		/* documentation */
		{0xC0A80000, 16},		/* 192.168/16 */
		{0xC6120000, 15},		/* benchmarks between networks */
		{0xC6336400, 24},		/* documentation */
		{0xCB007100, 24},		/* documentation */
		{0xE0000000, 3}			/* multicast, reserved, broadcast */
	};

	for (size_t i = 0; i < lengthof(private); i++)
		if (((address ^ private[i].network) >> (32 - private[i].bits)) == 0)
			return true;
	return false;
}

static uint32
v4_at(const struct in6_addr *address, int offset)
{
	uint32		v4;

	memcpy(&v4, &address->s6_addr[offset], sizeof(v4));
	return ntohl(v4);
}

static bool
starts_with(const struct in6_addr *address, const char *prefix, size_t length)
{
	return memcmp(address->s6_addr, prefix, length) == 0;
}

static bool
is_private_v6(const struct in6_addr *address)
{
	if (IN6_IS_ADDR_V4MAPPED(address))
		return is_private_v4(v4_at(address, 12));
	/* NAT64 and 6to4 carry an address of the old kind, which is where the packets end up */
	if (starts_with(address, "\0\x64\xFF\x9B\0\0\0\0\0\0\0\0", 12))
		return is_private_v4(v4_at(address, 12));
	if (starts_with(address, "\x20\x02", 2))
		return is_private_v4(v4_at(address, 2));
	/* protocol assignments: Teredo carries one as well, but of a relay */
	if (starts_with(address, "\x20\x01", 2) && (address->s6_addr[2] & 0xFE) == 0)
		return true;
	if (starts_with(address, "\x20\x01\x0D\xB8", 4))
		return true;			/* documentation */
	/* all else that a public host has is in 2000::/3 */
	return (address->s6_addr[0] & 0xE0) != 0x20;
}

bool
http_address_is_private(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
		return is_private_v4(ntohl(((const struct sockaddr_in *) address)->sin_addr.s_addr));
	if (address->sa_family == AF_INET6)
		return is_private_v6(&((const struct sockaddr_in6 *) address)->sin6_addr);
	return true;
}
