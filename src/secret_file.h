/*
 * secret_file.h
 *	  Secrets that are handed over in a file on the server, and so stand in no statement.
 */
#ifndef SMARTSPACE_SECRET_FILE_H
#define SMARTSPACE_SECRET_FILE_H

/*
 * The content of the file without one line end behind it, palloc'd; the caller wipes it.
 *
 * Only for functions that are SECURITY INVOKER: the current role must be a member of
 * pg_read_server_files, and in a SECURITY DEFINER function that would be the owner of the
 * extension. Throws 42501 for others and for a path that is not absolute or leads upwards,
 * 22023 for what is no secret (empty, longer than 4096 bytes, a NUL or invalid text in
 * it), and what opening the file throws.
 */
extern char *secret_file_read(const char *path);

#endif
