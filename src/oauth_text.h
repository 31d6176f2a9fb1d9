/*
 * oauth_text.h
 *	  The part of oauth.h that only handles text. Server-free like cobot_url.h.
 */
#ifndef SMARTSPACE_OAUTH_TEXT_H
#define SMARTSPACE_OAUTH_TEXT_H

#define OAUTH_URI_LIMIT_BYTES 1000
#define OAUTH_SCOPE_LIMIT_BYTES 1000
#define OAUTH_CLIENT_ID_LIMIT_BYTES 500
#define OAUTH_CLIENT_SECRET_LIMIT_BYTES 4096
#define OAUTH_TOKEN_LIMIT_BYTES 1000

/*
 * NULL if Cobot may send people back there: https://, or http:// to 127.0.0.1, [::1] or
 * localhost; printable ASCII, no fragment, no user name, at most OAUTH_URI_LIMIT_BYTES.
 * Otherwise what is wrong with it in words ("contains a fragment"). The second function
 * leaves scheme and host to the caller, for the schemes of mobile apps.
 */
extern const char *oauth_check_redirect_uri(const char *uri);
extern const char *oauth_check_uri_text(const char *uri);

/* NULL if it is a list of scopes, separated by single blanks, else what is wrong with it. */
extern const char *oauth_check_scope(const char *scope);

/*
 * True for what ids and secrets of clients and tokens are made of: 1 to limit_bytes
 * printable ASCII characters without blanks. So a line end that was copied along is
 * told, and never sent.
 */
extern bool oauth_is_plain(const char *text, size_t limit_bytes);

#endif
