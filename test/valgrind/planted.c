/*
 * planted.c
 *	  Everything that "make valgrind" is there to find, each in a function of its own, and
 *	  the same things done rightly. A judge that does not find them would find nothing; see
 *	  test/t/122_valgrind.pl.
 */
#include "postgres.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <openssl/evp.h>

#include "fmgr.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(plant_lost_block);
PG_FUNCTION_INFO_V1(plant_read_behind_the_end);
PG_FUNCTION_INFO_V1(plant_write_after_free);
PG_FUNCTION_INFO_V1(plant_decision_by_nothing);
PG_FUNCTION_INFO_V1(plant_nothing_written);
PG_FUNCTION_INFO_V1(plant_lost_handle);
PG_FUNCTION_INFO_V1(plant_lost_list);
PG_FUNCTION_INFO_V1(plant_lost_tree);
PG_FUNCTION_INFO_V1(plant_lost_cipher);
PG_FUNCTION_INFO_V1(plant_lost_by_thread);
PG_FUNCTION_INFO_V1(everything_right);

/* Where a pointer goes that is to be forgotten, so that no compiler leaves out what is done with it. */
static void *volatile kept;

/* The compiler knows nothing of the contents of what comes from here. */
static char *
new_block(size_t size)
{
	kept = malloc(size);
	return kept;
}

Datum
plant_lost_block(PG_FUNCTION_ARGS)
{
	new_block(100);
	kept = NULL;
	PG_RETURN_VOID();
}

Datum
plant_read_behind_the_end(PG_FUNCTION_ARGS)
{
	volatile char *block = new_block(8);

	(void) block[8];
	free((void *) block);
	PG_RETURN_VOID();
}

Datum
plant_write_after_free(PG_FUNCTION_ARGS)
{
	volatile char *block = new_block(8);

	free((void *) block);
	block[0] = 'x';
	PG_RETURN_VOID();
}

Datum
plant_decision_by_nothing(PG_FUNCTION_ARGS)
{
	char	   *block = new_block(8);

	if (block[3] == 'x')
		kept = NULL;
	free(block);
	PG_RETURN_VOID();
}

/* To the system, as a body goes to a socket. */
static void
write_all(const char *block, size_t size)
{
	int			file = open("/dev/null", O_WRONLY);

	if (write(file, block, size) != (ssize_t) size)
		elog(ERROR, "could not write to /dev/null");
	close(file);
}

Datum
plant_nothing_written(PG_FUNCTION_ARGS)
{
	char	   *block = new_block(8);

	write_all(block, 8);
	free(block);
	PG_RETURN_VOID();
}

Datum
plant_lost_handle(PG_FUNCTION_ARGS)
{
	CURL	   *handle = curl_easy_init();

	curl_easy_setopt(handle, CURLOPT_URL, "https://demo-space.cobot.me/");
	PG_RETURN_VOID();
}

Datum
plant_lost_list(PG_FUNCTION_ARGS)
{
	kept = curl_slist_append(NULL, "Accept: application/json");
	kept = NULL;
	PG_RETURN_VOID();
}

Datum
plant_lost_tree(PG_FUNCTION_ARGS)
{
	kept = cJSON_Parse("[{\"id\": \"one\"}, {\"id\": \"two\"}]");
	kept = NULL;
	PG_RETURN_VOID();
}

Datum
plant_lost_cipher(PG_FUNCTION_ARGS)
{
	kept = EVP_CIPHER_CTX_new();
	kept = NULL;
	PG_RETURN_VOID();
}

/* As libcurl's own thread does when it looks for an address: nothing of ours is in its stack. */
Datum
plant_lost_by_thread(PG_FUNCTION_ARGS)
{
	CURL	   *handle = curl_easy_init();
	pthread_t	thread;

	if (pthread_create(&thread, NULL, (void *(*) (void *)) curl_easy_duphandle, handle) != 0)
		elog(ERROR, "could not start a thread");
	pthread_join(thread, NULL);
	curl_easy_cleanup(handle);
	PG_RETURN_VOID();
}

Datum
everything_right(PG_FUNCTION_ARGS)
{
	char	   *block = new_block(8);
	CURL	   *handle = curl_easy_init();
	struct curl_slist *list = curl_slist_append(NULL, "Accept: application/json");

	curl_easy_setopt(handle, CURLOPT_HTTPHEADER, list);
	cJSON_Delete(cJSON_Parse("[{\"id\": \"one\"}, {\"id\": \"two\"}]"));
	EVP_CIPHER_CTX_free(EVP_CIPHER_CTX_new());
	memset(block, 'x', 8);
	write_all(block, 8);
	free(block);
	curl_easy_cleanup(handle);
	curl_slist_free_all(list);
	PG_RETURN_VOID();
}
