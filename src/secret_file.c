/*
 * secret_file.c
 *	  Secrets from files on the server. Runs in the backend that calls.
 *
 * These functions have the rights of whoever calls them, and only pass on what they have
 * read to those that store it. With the owner's rights they would have to ask who is
 * behind the call, and a function of somebody else that a superuser happens to run could
 * read files for that somebody.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_authid.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "compat.h"
#include "seal.h"
#include "secret_file.h"
#include "smartspace_cobot.h"

PG_FUNCTION_INFO_V1(secret_file_connect_token);
PG_FUNCTION_INFO_V1(secret_file_set_client_secret);
PG_FUNCTION_INFO_V1(secret_file_set_mobile_app_client);

/* Room for the secret, a line end, one byte that is too much, and a NUL. */
#define BUFFER_SIZE (SEAL_SECRET_LIMIT_BYTES + 4)

static char *
checked_path(const char *given)
{
	char	   *path = pstrdup(given);

	if (!has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to read a secret from a file of the server"),
				 errhint("Only members of pg_read_server_files may; others give the secret as a bind parameter.")));
	canonicalize_path(path);
	if (!is_absolute_path(path) || path_contains_parent_reference(path))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the path of a file with a secret must be absolute"),
				 errhint("Give it from the root of the server's file system on, without \"..\".")));
	return path;
}

static int
open_file(const char *path)
{
	struct stat file;
	/* not waiting for whoever writes, should it be a pipe */
	int			fd = OpenTransientFile(path, O_RDONLY | O_NONBLOCK | PG_BINARY);

	if (fd < 0 || fstat(fd, &file) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\" for reading: %m", path)));
	if (!S_ISREG(file.st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a regular file", path)));
	return fd;
}

/* Cuts one line end off; false if the rest is no secret. */
static bool
trim(char *text, ssize_t length)
{
	if (length > 0 && text[length - 1] == '\n')
		length--;
	if (length > 0 && text[length - 1] == '\r')
		length--;
	text[length] = '\0';
	return length > 0 && length <= SEAL_SECRET_LIMIT_BYTES && strlen(text) == (size_t) length &&
		pg_verifymbstr(text, (int) length, true);
}

char *
secret_file_read(const char *given)
{
	char	   *path = checked_path(given);
	char	   *text = palloc(BUFFER_SIZE);
	int			fd = open_file(path);
	ssize_t		length = 0;
	ssize_t		got;

	do
	{
		got = read(fd, text + length, BUFFER_SIZE - 1 - length);
		length += Max(got, 0);
	} while (got > 0 || (got < 0 && errno == EINTR));
	if (got < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read file \"%s\": %m", path)));
	CloseTransientFile(fd);
	if (!trim(text, length))
	{
		explicit_bzero(text, BUFFER_SIZE);
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("file \"%s\" does not hold a secret", path),
				 errdetail("It must hold 1 to %d bytes of text, and may end with one line end.", SEAL_SECRET_LIMIT_BYTES)));
	}
	return text;
}

/*
 * Calls the function of that name, if the current role may, with the caller's arguments but
 * for the last one, which is the path: the secret takes its place. By no statement, because
 * what logs plans or the arguments of statements would log it.
 */
static Datum
pass_on(FunctionCallInfo fcinfo, const char *name)
{
	static const Oid types[] = {INT8OID, TEXTOID, TEXTOID};
	int			count = PG_NARGS();
	Oid			function = LookupFuncName(list_make2(makeString(SMARTSPACE_SCHEMA), makeString(pstrdup(name))), count, types, false);
	FmgrInfo	callee;
	Datum		result;

	LOCAL_FCINFO(call, lengthof(types));

	if (!compat_may_execute(function, GetUserId()))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, name);
	if (PG_ARGISNULL(count - 1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the path must not be null")));

	char	   *secret = secret_file_read(text_to_cstring(PG_GETARG_TEXT_PP(count - 1)));
	size_t		length = strlen(secret);
	text	   *passed = cstring_to_text_with_len(secret, length);

	explicit_bzero(secret, length);
	fmgr_info(function, &callee);
	InitFunctionCallInfoData(*call, &callee, count, InvalidOid, NULL, NULL);
	for (int i = 0; i < count - 1; i++)
		call->args[i] = fcinfo->args[i];
	call->args[count - 1] = (NullableDatum) {.value = PointerGetDatum(passed)};
	result = FunctionCallInvoke(call);
	explicit_bzero(VARDATA(passed), length);
	return result;
}

/*
 * cobot_connect_token_file(integration bigint, path text), as cobot_connect_token()
 */
Datum
secret_file_connect_token(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(pass_on(fcinfo, "cobot_connect_token"));
}

/*
 * cobot_set_client_secret_file(integration bigint, path text)
 */
Datum
secret_file_set_client_secret(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(pass_on(fcinfo, "cobot_set_client_secret"));
}

/*
 * cobot_set_mobile_app_client_file(mobile_app bigint, client_id text, path text) -> text
 */
Datum
secret_file_set_mobile_app_client(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(pass_on(fcinfo, "cobot_set_mobile_app_client"));
}
