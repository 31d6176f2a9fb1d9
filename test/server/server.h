/*
 * server.h
 *	  The two listeners: HTTPS as Cobot, plain HTTP for control. Both on the
 *	  loopback interface only.
 */
#ifndef COBOT_TEST_SERVER_H
#define COBOT_TEST_SERVER_H

#include <stdbool.h>

/* Port 0 picks a free one. certificate and key are PEM text. */
extern bool server_start(int port, int control_port, const char *certificate, const char *key);
extern int	server_port(void);
extern int	server_control_port(void);
extern void server_stop(void);

#endif
