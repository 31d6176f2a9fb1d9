/*
 * http_address.h
 *	  Where a connection may lead. Free of the server and of libcurl.
 */
#ifndef SMARTSPACE_HTTP_ADDRESS_H
#define SMARTSPACE_HTTP_ADDRESS_H

#include <sys/socket.h>

/*
 * Is this an address of the own machine or network, or none that a public host can have?
 * Also when it is wrapped into an IPv6 address, and for any other kind of address.
 */
extern bool http_address_is_private(const struct sockaddr *address);

#endif
