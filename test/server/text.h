/*
 * text.h
 *	  Memory that is always there, and text that grows.
 *
 * The program ends when memory runs out, so nothing here returns NULL (except
 * text_copy(NULL)). Whoever gets memory frees it with free().
 */
#ifndef COBOT_TEST_TEXT_H
#define COBOT_TEST_TEXT_H

#include <stdarg.h>
#include <stddef.h>

extern void *memory_get(size_t size);
extern void *memory_zero(size_t size);
extern void *memory_resize(void *old, size_t size);

/* A copy, or NULL for NULL. */
extern char *text_copy(const char *source);
extern char *text_copy_length(const char *source, size_t length);

/* printf into a new string. */
extern char *text_printf(const char *format,...) __attribute__((format(printf, 1, 2)));

/* Start with {0}; data is NUL-terminated once something was added. */
typedef struct Text
{
	char	   *data;
	size_t		length;
	size_t		size;
} Text;

extern void text_add_bytes(Text *text, const char *bytes, size_t length);
extern void text_add(Text *text, const char *string);
extern void text_add_char(Text *text, char c);
extern void text_add_format(Text *text, const char *format,...) __attribute__((format(printf, 2, 3)));

/* As a JSON string with its quotes, or null for NULL. */
extern void text_add_json(Text *text, const char *string);

extern void text_reserve(Text *text, size_t more);

/* The string, never NULL; the caller frees it and the text is empty again. */
extern char *text_take(Text *text);

#endif
