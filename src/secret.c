/*
 * secret.c
 *	  Storing and reading secrets, and the key file. Runs in the backend that calls.
 *
 * Between reading the key file and wiping it nothing may throw: an error would jump past
 * the wiping.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "query.h"
#include "seal.h"
#include "secret.h"

PG_FUNCTION_INFO_V1(secret_problem);
PG_FUNCTION_INFO_V1(secret_seal_all);

#define KEY_FILE_LIMIT_BYTES 16384
#define WRONG_SIZE 240

/* Where a kind of secrets stands; the label is that of cobot_secret_problem(). */
typedef struct SecretPlace
{
	const char *label;
	const char *table;
	const char *id_column;
	const char *column;
} SecretPlace;

static const SecretPlace places[] = {
	[SECRET_TOKEN] = {"token", "smartspace.cobot_secret", "integration_id", "token"},
	[SECRET_CLIENT_SECRET] = {"client_secret", "smartspace.cobot_secret", "integration_id", "client_secret"},
	[SECRET_RETIRED_TOKEN] = {"retired_token", "smartspace.cobot_secret", "integration_id", "retired_token"},
	[SECRET_MOBILE_APP] = {"mobile_app", "smartspace.mobile_app_secret", "mobile_app_id", "client_secret"}
};

char	   *secret_key_file = NULL;

/* ---- the key file ---- */

/*
 * A key in the data directory would come along with every base backup, beside what it
 * locks up.
 */
bool
secret_check_key_file(char **newval, void **extra, GucSource source)
{
	char		path[MAXPGPATH];

	(void) extra;
	(void) source;

	if (*newval == NULL || **newval == '\0')
		return true;
	if (!is_absolute_path(*newval) || strlen(*newval) >= sizeof(path))
	{
		GUC_check_errdetail("It must be an absolute path.");
		return false;
	}
	strlcpy(path, *newval, sizeof(path));
	canonicalize_path(path);
	if (path_contains_parent_reference(path) || (DataDir && path_is_prefix_of_path(DataDir, path)))
	{
		GUC_check_errdetail("The key file must be outside of the data directory, where every base backup would take it along.");
		return false;
	}
	return true;
}

static bool
is_set(void)
{
	return secret_key_file != NULL && secret_key_file[0] != '\0';
}

/* The rules of ssl_key_file. NULL, or what is wrong. */
static const char *
check_file(const struct stat *file)
{
	if (!S_ISREG(file->st_mode))
		return "The key file is not a regular file.";
	if (file->st_uid != geteuid() && file->st_uid != 0)
		return "The key file belongs neither to the server's user nor to root.";
	if (file->st_mode & (file->st_uid == 0 ? S_IWGRP | S_IXGRP | S_IRWXO : S_IRWXG | S_IRWXO))
		return "Others than the owner may read or write the key file (one of root's may be readable by its group).";
	return NULL;
}

/* The number of bytes read; -1 with what is wrong. */
static ssize_t
read_whole(int fd, char *text, size_t size, char wrong[WRONG_SIZE])
{
	struct stat file;
	const char *refused;
	size_t		length = 0;
	ssize_t		got = 1;

	if (fstat(fd, &file) != 0)
		snprintf(wrong, WRONG_SIZE, "The key file cannot be looked at: %s.", strerror(errno));
	else if ((refused = check_file(&file)) != NULL)
		strlcpy(wrong, refused, WRONG_SIZE);
	else
	{
		while (got > 0 && length < size)
		{
			got = read(fd, text + length, size - length);
			if (got > 0)
				length += got;
			else if (got < 0 && errno == EINTR)
				got = 1;
		}
		if (got < 0)
			snprintf(wrong, WRONG_SIZE, "The key file cannot be read: %s.", strerror(errno));
		else if (length == size)
			snprintf(wrong, WRONG_SIZE, "The key file is larger than %d bytes.", KEY_FILE_LIMIT_BYTES);
		else
			return (ssize_t) length;
	}
	return -1;
}

/* False with what is wrong, in a sentence without the path. Throws nothing. */
static bool
read_keys(SealKeys *keys, char wrong[WRONG_SIZE])
{
	char		text[KEY_FILE_LIMIT_BYTES + 1];
	const char *bad_line = NULL;
	ssize_t		length;
	int			line;
	int			fd;

	if (!is_set())
	{
		strlcpy(wrong, "smartspace_cobot.key_file is not set.", WRONG_SIZE);
		return false;
	}
	/* not waiting for whoever writes, should it be a pipe */
	fd = BasicOpenFile(secret_key_file, O_RDONLY | O_NONBLOCK | PG_BINARY);
	if (fd < 0)
	{
		snprintf(wrong, WRONG_SIZE, "The key file cannot be opened: %s.", strerror(errno));
		return false;
	}
	length = read_whole(fd, text, sizeof(text), wrong);
	close(fd);
	if (length >= 0)
		bad_line = seal_read_keys(text, length, keys, &line);
	explicit_bzero(text, sizeof(text));
	if (bad_line && line > 0)
		snprintf(wrong, WRONG_SIZE, "Line %d of the key file %s.", line, bad_line);
	else if (bad_line)
		snprintf(wrong, WRONG_SIZE, "The key file %s.", bad_line);
	if (bad_line)
		explicit_bzero(keys, sizeof(*keys));
	return length >= 0 && bad_line == NULL;
}

static void
raise_unusable(const char *wrong)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the key file for secrets cannot be used"),
			 errdetail("%s", wrong),
			 errhint("Put the file that smartspace_cobot.key_file names in order: a key id and 64 hexadecimal digits in each line, readable by the server's user alone.")));
}

void
secret_require_key(void)
{
	SealKeys	keys;
	char		wrong[WRONG_SIZE];
	bool		usable;

	if (!is_set())
		return;
	usable = read_keys(&keys, wrong);
	explicit_bzero(&keys, sizeof(keys));
	if (!usable)
		raise_unusable(wrong);
}

/* ---- sealing and opening ---- */

static char *
owner_of(SecretKind kind, int64 id)
{
	return psprintf("%s.%s %lld", places[kind].table, places[kind].column, (long long) id);
}

/* As it is to be stored, palloc'd. */
static char *
seal(SecretKind kind, int64 id, const char *secret)
{
	char	   *owner = owner_of(kind, id);
	char	   *text = palloc(SEAL_TEXT_SIZE);
	char		wrong[WRONG_SIZE];
	SealKeys	keys;
	bool		usable = read_keys(&keys, wrong);
	bool		sealed = usable && seal_close(&keys.key[0], owner, secret, text);

	explicit_bzero(&keys, sizeof(keys));
	if (!usable)
		raise_unusable(wrong);
	if (!sealed)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not seal a secret"),
				 errdetail("OpenSSL does not do AES-256-GCM on this server, or has no random numbers: see its configuration (openssl.cnf).")));
	return text;
}

/* Why a sealed secret cannot be read, in a sentence. */
static char *
explain(const char *stored, SealOutcome outcome, const char *wrong)
{
	char		id[SEAL_KEY_ID_LIMIT_BYTES + 1];

	if (!seal_key_id(stored, id))
		return pstrdup("What is stored is no sealed secret that this version can read.");
	if (wrong)
		return psprintf("It is sealed with the key \"%s\". %s", id, wrong);
	if (outcome == SEAL_NO_SUCH_KEY)
		return psprintf("It is sealed with the key \"%s\", which is not in the key file.", id);
	if (outcome == SEAL_NOT_AUTHENTIC)
		return psprintf("The key \"%s\" of the key file does not open it: it is another key of that name, or what is stored was changed or belongs to another row.", id);
	return pstrdup("OpenSSL does not do AES-256-GCM on this server, whatever the key: see its configuration (openssl.cnf).");
}

static Secret
open_sealed(SecretKind kind, int64 id, const char *stored)
{
	char	   *owner = owner_of(kind, id);
	char	   *value = palloc(strlen(stored));
	char		wrong[WRONG_SIZE];
	SealKeys	keys;
	SealOutcome outcome = SEAL_NO_SUCH_KEY;
	bool		readable = read_keys(&keys, wrong);
	int			key = 0;

	if (readable)
		outcome = seal_open(&keys, owner, stored, value, &key);
	explicit_bzero(&keys, sizeof(keys));
	if (readable && outcome == SEAL_OPENED)
		return (Secret) {.state = SECRET_READ, .value = value, .is_sealed = true, .is_current = key == 0};
	return (Secret) {
		.state = outcome == SEAL_NO_SUCH_KEY ? SECRET_KEY_MISSING : SECRET_UNREADABLE,
		.detail = explain(stored, outcome, readable ? NULL : wrong), .is_sealed = true
	};
}

Secret
secret_open(SecretKind kind, int64 id, char *stored)
{
	Secret		secret;

	if (stored == NULL)
		return (Secret) {.state = SECRET_NONE};
	if (seal_is_sealed(stored))
		return open_sealed(kind, id, stored);
	secret = (Secret) {.state = SECRET_READ, .value = pstrdup(stored)};
	explicit_bzero(stored, strlen(stored));
	return secret;
}

void
secret_wipe(Secret *secret)
{
	if (secret->value)
		explicit_bzero(secret->value, strlen(secret->value));
	secret->value = NULL;
}

const char *
secret_reason(SecretState state)
{
	switch (state)
	{
		case SECRET_NONE:
		case SECRET_READ:
			break;
		case SECRET_KEY_MISSING:
			return "key_missing";
		case SECRET_UNREADABLE:
			return "secret_unreadable";
	}
	return NULL;
}

void
secret_require_readable(const Secret *secret, const char *owner)
{
	if (secret_reason(secret->state) == NULL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("%s cannot be read", owner),
			 errdetail("%s", secret->detail),
			 secret->state == SECRET_KEY_MISSING
			 ? errhint("Bring the key back into the file that smartspace_cobot.key_file names; nothing else is needed. If it is lost, store the secret again.")
			 : errhint("Bring the right key back into the file that smartspace_cobot.key_file names, or store the secret again.")));
}

/* ---- the tables ---- */

static void
lock_table(SecretKind kind, const char *mode)
{
	query_run(psprintf("LOCK TABLE %s IN %s MODE", places[kind].table, mode), 0, NULL);
}

/* In place of the one before; SQL null for NULL. */
static void
write_row(SecretKind kind, int64 id, const char *stored)
{
	const SecretPlace *place = &places[kind];
	QueryArg	arg = query_int64(id);

	/* a row that is there may have columns of its own that an INSERT would have to name */
	if (query_run_given(psprintf("UPDATE %s SET %s = g.value FROM given g WHERE %s = $1", place->table, place->column, place->id_column),
						1, &arg, stored) == 0)
		query_run_given(psprintf("INSERT INTO %s (%s, %s) SELECT $1, g.value FROM given g ON CONFLICT (%s) DO UPDATE SET %s = excluded.%s",
								 place->table, place->id_column, place->column, place->id_column, place->column, place->column),
						1, &arg, stored);
}

void
secret_store(SecretKind kind, int64 id, const char *secret)
{
	if (secret && (secret[0] == '\0' || strlen(secret) > SEAL_SECRET_LIMIT_BYTES))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a secret must have 1 to %d bytes", SEAL_SECRET_LIMIT_BYTES)));
	if (secret && seal_is_sealed(secret))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a secret must not begin with \"%s\"", SEAL_PREFIX),
				 errdetail("Sealed secrets are stored like this.")));
	/* before the key is read: else the row could miss a rotation that has begun, and be left with a key that is going */
	lock_table(kind, "ROW EXCLUSIVE");
	write_row(kind, id, secret && is_set() ? seal(kind, id, secret) : secret);
}

Secret
secret_load(SecretKind kind, int64 id)
{
	const SecretPlace *place = &places[kind];
	QueryArg	arg = query_int64(id);

	if (query_run(psprintf("SELECT s.%s FROM %s s WHERE s.%s = $1", place->column, place->table, place->id_column), 1, &arg) == 0)
		return secret_open(kind, id, NULL);
	return secret_open(kind, id, query_result_text(0, 1));
}

/* ---- what people call ---- */

/*
 * cobot_secret_problem(kind text, id bigint, stored text) -> (reason text, detail text)
 */
Datum
secret_problem(PG_FUNCTION_ARGS)
{
	char	   *label = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int64		id = PG_GETARG_INT64(1);
	Datum		values[2] = {0};
	bool		nulls[2] = {true, true};
	TupleDesc	tupdesc;
	int			kind = 0;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	while (kind < (int) lengthof(places) && strcmp(places[kind].label, label) != 0)
		kind++;
	if (kind == (int) lengthof(places))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no kind of secrets \"%s\"", pnstrdup(label, pg_mbcliplen(label, strlen(label), NAMEDATALEN - 1)))));

	Secret		secret = secret_open(kind, id, text_to_cstring(PG_GETARG_TEXT_PP(2)));
	const char *reason = secret_reason(secret.state);

	secret_wipe(&secret);
	if (reason)
	{
		values[0] = CStringGetTextDatum(reason);
		values[1] = CStringGetTextDatum(secret.detail);
		nulls[0] = nulls[1] = false;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls)));
}

typedef enum SealCount
{
	COUNT_SEALED,
	COUNT_RESEALED,
	COUNT_UNSEALED,
	COUNT_UNCHANGED,
	COUNT_UNREADABLE,
	COUNTS
} SealCount;

static SealCount
seal_row(SecretKind kind, int64 id, char *stored, bool unseal)
{
	Secret		secret = secret_open(kind, id, stored);
	SealCount	what = COUNT_UNCHANGED;

	if (secret.state != SECRET_READ)
	{
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the %s of row %lld of %s cannot be read and stays as it is", places[kind].column, (long long) id, places[kind].table),
				 errdetail("%s", secret.detail)));
		return COUNT_UNREADABLE;
	}
	if (unseal && secret.is_sealed)
	{
		write_row(kind, id, secret.value);
		what = COUNT_UNSEALED;
	}
	else if (!unseal && !secret.is_current)
	{
		write_row(kind, id, seal(kind, id, secret.value));
		what = secret.is_sealed ? COUNT_RESEALED : COUNT_SEALED;
	}
	secret_wipe(&secret);
	return what;
}

static void
seal_kind(SecretKind kind, bool unseal, int64 counts[COUNTS])
{
	const SecretPlace *place = &places[kind];
	uint64		count = query_run(psprintf("SELECT s.%s, s.%s FROM %s s WHERE s.%s IS NOT NULL ORDER BY 1",
										   place->id_column, place->column, place->table, place->column), 0, NULL);
	SPITupleTable *rows = SPI_tuptable;
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext, "smartspace_cobot sealing", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(row_context);

	for (uint64 i = 0; i < count; i++)
	{
		bool		isnull;
		int64		id = DatumGetInt64(SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &isnull));

		counts[seal_row(kind, id, SPI_getvalue(rows->vals[i], rows->tupdesc, 2), unseal)]++;
		MemoryContextReset(row_context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(row_context);
	SPI_freetuptable(rows);
}

/*
 * cobot_seal_secrets(unseal boolean)
 *		-> (sealed, resealed, unsealed, unchanged, unreadable), how many of each
 */
Datum
secret_seal_all(PG_FUNCTION_ARGS)
{
	bool		unseal = !PG_ARGISNULL(0) && PG_GETARG_BOOL(0);
	int64		counts[COUNTS] = {0};
	Datum		values[COUNTS];
	bool		nulls[COUNTS] = {false};
	TupleDesc	tupdesc;

	PreventCommandIfReadOnly("cobot_seal_secrets()");
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (!unseal && !is_set())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there is no key to seal secrets with"),
				 errdetail("smartspace_cobot.key_file is not set."),
				 errhint("Set it. To store secrets as they are, run SELECT * FROM smartspace.cobot_seal_secrets(unseal => true) while the key file is still set.")));
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("secrets cannot be sealed in a transaction with isolation level repeatable read or serializable"),
				 errdetail("It would not see what others stored since it began."),
				 errhint("Use read committed.")));
	if (!unseal)
		secret_require_key();

	SPI_connect();
	/* all before the first is read: whoever is storing one has to have ended, and whoever comes takes the key that counts now */
	for (int kind = 0; kind < (int) lengthof(places); kind++)
		lock_table(kind, "SHARE ROW EXCLUSIVE");
	for (int kind = 0; kind < (int) lengthof(places); kind++)
		seal_kind(kind, unseal, counts);
	SPI_finish();

	if (counts[COUNT_SEALED] > 0)
		ereport(NOTICE,
				(errmsg("the secrets as they were are in the tables' files until these are rewritten"),
				 errdetail("So they are in older backups and archived WAL."),
				 errhint("Run VACUUM FULL smartspace.cobot_secret, smartspace.mobile_app_secret when this transaction is committed, and connect again where an old backup could get into other hands.")));
	if (counts[COUNT_UNSEALED] > 0 && is_set())
		ereport(NOTICE,
				(errmsg("secrets that are stored from now on are sealed"),
				 errhint("Take smartspace_cobot.key_file out of the configuration.")));
	for (int i = 0; i < COUNTS; i++)
		values[i] = Int64GetDatum(counts[i]);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls)));
}
