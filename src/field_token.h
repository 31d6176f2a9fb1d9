/*
 * field_token.h
 *	  Splits a value of the custom field into identifiers. Server-free.
 */
#ifndef SMARTSPACE_FIELD_TOKEN_H
#define SMARTSPACE_FIELD_TOKEN_H

#include <stdbool.h>
#include <stddef.h>

/*
 * The next identifier of a comma-separated UTF-8 list: blanks at both ends
 * (Unicode's too, since people paste from web pages) are left out, and so are
 * identifiers that are empty after that. *cursor starts at the first byte and
 * moves on; the result points into the list and is not terminated. False at
 * the end.
 */
extern bool field_token_next(const char **cursor, const char *end,
							 const char **token, size_t *length);

#endif
