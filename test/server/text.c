/*
 * text.c
 *	  Memory that is always there, and text that grows. Used by every thread;
 *	  knows of no lock.
 */
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *
checked(void *memory)
{
	if (memory == NULL)
	{
		fputs("cobot_test_server: out of memory\n", stderr);
		abort();
	}
	return memory;
}

void *
memory_get(size_t size)
{
	return checked(malloc(size > 0 ? size : 1));
}

void *
memory_zero(size_t size)
{
	return checked(calloc(1, size > 0 ? size : 1));
}

void *
memory_resize(void *old, size_t size)
{
	return checked(realloc(old, size > 0 ? size : 1));
}

char *
text_copy_length(const char *source, size_t length)
{
	char	   *copy = memory_get(length + 1);

	memcpy(copy, source, length);
	copy[length] = '\0';
	return copy;
}

char *
text_copy(const char *source)
{
	return source == NULL ? NULL : text_copy_length(source, strlen(source));
}

void
text_reserve(Text *text, size_t more)
{
	size_t		needed = text->length + more + 1;

	if (needed <= text->size)
		return;
	if (needed < text->size * 2)
		needed = text->size * 2;
	if (needed < 256)
		needed = 256;
	text->data = memory_resize(text->data, needed);
	text->size = needed;
}

void
text_add_bytes(Text *text, const char *bytes, size_t length)
{
	text_reserve(text, length);
	memcpy(text->data + text->length, bytes, length);
	text->length += length;
	text->data[text->length] = '\0';
}

void
text_add(Text *text, const char *string)
{
	text_add_bytes(text, string, strlen(string));
}

void
text_add_char(Text *text, char c)
{
	text_add_bytes(text, &c, 1);
}

static void
add_format(Text *text, const char *format, va_list arguments)
{
	va_list		again;
	int			length;

	va_copy(again, arguments);
	length = vsnprintf(NULL, 0, format, again);
	va_end(again);
	text_reserve(text, (size_t) length);
	vsnprintf(text->data + text->length, (size_t) length + 1, format, arguments);
	text->length += (size_t) length;
}

void
text_add_format(Text *text, const char *format,...)
{
	va_list		arguments;

	va_start(arguments, format);
	add_format(text, format, arguments);
	va_end(arguments);
}

char *
text_printf(const char *format,...)
{
	Text		text = {0};
	va_list		arguments;

	va_start(arguments, format);
	add_format(&text, format, arguments);
	va_end(arguments);
	return text.data;
}

void
text_add_json(Text *text, const char *string)
{
	const char *start = string;

	if (string == NULL)
	{
		text_add(text, "null");
		return;
	}
	text_add_char(text, '"');
	for (const char *p = string; *p != '\0'; p++)
	{
		unsigned char c = (unsigned char) *p;

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		text_add_bytes(text, start, (size_t) (p - start));
		start = p + 1;
		if (c == '"' || c == '\\')
			text_add_format(text, "\\%c", c);
		else if (c == '\n')
			text_add(text, "\\n");
		else
			text_add_format(text, "\\u%04x", c);
	}
	text_add(text, start);
	text_add_char(text, '"');
}

char *
text_take(Text *text)
{
	char	   *data = text->data != NULL ? text->data : text_copy("");

	memset(text, 0, sizeof(*text));
	return data;
}
