/*
 * navigation.c
 *	  Links in the navigation of a space at Cobot, behind which Cobot shows a page of ours
 *	  in a frame: made, listed and removed on purpose, by a person who waits. Runs in the
 *	  backend that calls. Nothing of it is stored here: Cobot lists the links of our own
 *	  OAuth client.
 *
 * Facts: Cobot makes the same link any number of times, so what there is comes first. A
 * link has no id of its own; it is the last part of its url. Section and iframe_url say
 * which link it is; its label may be changed by the people of the space.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "argument.h"
#include "integration.h"
#include "lock.h"
#include "oauth_text.h"

PG_FUNCTION_INFO_V1(navigation_install_link);
PG_FUNCTION_INFO_V1(navigation_list_links);
PG_FUNCTION_INFO_V1(navigation_remove_link);

#define LABEL_LENGTH_LIMIT 200
#define SCOPE "navigation"

/* Facts: the closed set of Cobot. */
static const char *const sections[] = {"admin/setup", "admin/manage", "admin/analyze", "members"};

/* A link that Cobot has; texts belong to its answer, NULL where Cobot does not say. */
typedef struct Link
{
	const char *id;
	const char *section;
	const char *label;
	const char *iframe_url;
	const char *user_url;
} Link;

typedef struct Navigation
{
	Integration integration;
	CobotClient client;
	MemoryContext context;		/* answers live here */
} Navigation;

/* Connects to SPI. Throws unless the integration can talk to Cobot. */
static void
open_navigation(Navigation *navigation, FunctionCallInfo fcinfo)
{
	navigation->context = AllocSetContextCreate(CurrentMemoryContext, "smartspace_cobot navigation",
												ALLOCSET_DEFAULT_SIZES);
	SPI_connect();
	integration_load(&navigation->integration, PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0), PG_ARGISNULL(0));
	integration_open_client(&navigation->integration, &navigation->client, navigation->context);
	integration_wipe(&navigation->integration);
}

static void
close_navigation(Navigation *navigation)
{
	explicit_bzero((char *) navigation->client.token, strlen(navigation->client.token));
	SPI_finish();
	MemoryContextDelete(navigation->context);
}

/* Throws if the call failed, with the scope where that may be why. */
static void
check_call(const Navigation *navigation, const CobotCall *call)
{
	if (call->outcome == COBOT_FORBIDDEN)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%s; it needs the scope " SCOPE, cobot_failure_message(call)),
				 errdetail("%s", cobot_failure_detail(call)),
				 errhint("Add the scope " SCOPE " to the OAuth client in Cobot, and let an admin of \"%s\" connect the integration again. If the token has the scope, its user is no admin any more.",
						 navigation->integration.subdomain)));
	if (call->outcome != COBOT_OK)
		cobot_raise_call(call);
}

/* ---- what there is ---- */

static bool
read_link(const cJSON *element, const char *where, Link *link, JsonError *error)
{
	const char *url = NULL;
	bool		has_url,
				present;

	*link = (Link) {0};
	if (!json_get_string(element, where, "url", &url, &has_url, error) ||
		!json_get_string(element, where, "section", &link->section, &present, error) ||
		!json_get_string(element, where, "label", &link->label, &present, error) ||
		!json_get_string(element, where, "iframe_url", &link->iframe_url, &present, error) ||
		!json_get_string(element, where, "user_url", &link->user_url, &present, error))
		return false;

	const char *slash = has_url ? strrchr(url, '/') : NULL;

	if (slash == NULL || slash[1] == '\0')
		return json_fail(error, where, "url", "does not end in an id");
	link->id = slash + 1;
	return true;
}

/* The links of our OAuth client. *count: how many. */
static Link *
ask_links(Navigation *navigation, int *count)
{
	CobotCall  *call = cobot_ask_navigation_links(&navigation->client);
	const cJSON *element;
	JsonError	error;
	int			i = 0;

	cobot_perform(&call, 1);
	check_call(navigation, call);

	const cJSON *list = cobot_answer(call, &error);

	if (list == NULL)
		cobot_raise_answer(call, &error);

	Link	   *links = palloc(sizeof(Link) * Max(cJSON_GetArraySize(list), 1));

	cJSON_ArrayForEach(element, list)
	{
		if (!read_link(element, psprintf("navigation_links[%d]", i), &links[i], &error))
			cobot_raise_answer(call, &error);
		i++;
	}
	*count = i;
	return links;
}

static Datum
text_or_null(const char *text, bool *isnull)
{
	*isnull = text == NULL;
	return text ? CStringGetTextDatum(text) : (Datum) 0;
}

/*
 * cobot_list_links(integration bigint) -> (id, section, label, iframe_url, user_url)
 */
Datum
navigation_list_links(PG_FUNCTION_ARGS)
{
	Navigation	navigation;
	int			count;

	InitMaterializedSRF(fcinfo, 0);
	open_navigation(&navigation, fcinfo);

	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const Link *links = ask_links(&navigation, &count);

	for (int i = 0; i < count; i++)
	{
		bool		nulls[5];
		Datum		values[] = {
			text_or_null(links[i].id, &nulls[0]), text_or_null(links[i].section, &nulls[1]),
			text_or_null(links[i].label, &nulls[2]), text_or_null(links[i].iframe_url, &nulls[3]),
			text_or_null(links[i].user_url, &nulls[4])
		};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	close_navigation(&navigation);
	PG_RETURN_NULL();
}

/* ---- install ---- */

static void
check_label(const char *label)
{
	bool		good = label[strspn(label, " ")] != '\0' && pg_mbstrlen(label) <= LABEL_LENGTH_LIMIT;

	for (const char *c = label; *c != '\0'; c++)
		if ((unsigned char) *c < ' ' || *c == 0x7F)
			good = false;
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid label"),
				 errdetail("A label has 1 to %d characters, is not blank, and has no control characters.", LABEL_LENGTH_LIMIT)));
}

static void
check_iframe_url(const char *url)
{
	const char *wrong = oauth_check_redirect_uri(url);

	if (wrong == NULL && strncmp(url, "https://", 8) != 0)
		wrong = "does not begin with https://";
	if (wrong)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid URL of a page"),
				 errdetail("It %s.", wrong),
				 errhint("Give the public address of the page that Cobot shall show, such as https://backend.example/cobot/doors.")));
}

static void
check_section(const char *section)
{
	for (int i = 0; i < (int) lengthof(sections); i++)
		if (strcmp(section, sections[i]) == 0)
			return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("Cobot's navigation has no such section"),
			 errhint("It is one of admin/setup, admin/manage, admin/analyze and members.")));
}

static bool
is_text(const char *text, const char *wanted)
{
	return text != NULL && strcmp(text, wanted) == 0;
}

/* Makes the link; its answer is as one of the list. */
static Link
create_link(Navigation *navigation, const Link *wanted)
{
	CobotCall  *call = cobot_post_navigation_link(&navigation->client, wanted->section, wanted->label, wanted->iframe_url);
	JsonError	error;
	Link		link;

	cobot_perform(&call, 1);
	check_call(navigation, call);

	const cJSON *answer = cobot_answer(call, &error);

	if (answer == NULL || !read_link(answer, "", &link, &error))
		cobot_raise_answer(call, &error);
	return link;
}

/*
 * cobot_install_link(integration bigint, label text, iframe_url text, section text)
 *		-> (id, result, label, user_url)
 */
Datum
navigation_install_link(PG_FUNCTION_ARGS)
{
	Link		wanted = {
		.label = argument_required_text(fcinfo, 1, "label"),
		.iframe_url = argument_required_text(fcinfo, 2, "URL of the page"),
		.section = argument_required_text(fcinfo, 3, "section")
	};
	Navigation	navigation;
	TupleDesc	tupdesc;
	const Link *found = NULL;
	int			count;

	PreventCommandIfReadOnly("cobot_install_link()");
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);
	check_label(wanted.label);
	check_iframe_url(wanted.iframe_url);
	check_section(wanted.section);

	open_navigation(&navigation, fcinfo);
	lock_links(navigation.integration.id);

	const Link *links = ask_links(&navigation, &count);

	/* of several that will do, the one with the label */
	for (int i = 0; i < count; i++)
		if (is_text(links[i].section, wanted.section) && is_text(links[i].iframe_url, wanted.iframe_url) &&
			(found == NULL || is_text(links[i].label, wanted.label)))
			found = &links[i];

	const Link	link = found ? *found : create_link(&navigation, &wanted);
	bool		nulls[4];
	Datum		values[] = {
		text_or_null(link.id, &nulls[0]), text_or_null(found ? "present" : "created", &nulls[1]),
		text_or_null(link.label, &nulls[2]), text_or_null(link.user_url, &nulls[3])
	};
	Datum		row = PointerGetDatum(SPI_returntuple(heap_form_tuple(tupdesc, values, nulls), tupdesc));

	if (found && !is_text(found->label, wanted.label))
		ereport(NOTICE,
				(errmsg("the link is there with another label"),
				 errdetail("Somebody may have renamed it in Cobot."),
				 errhint("To rename it, remove it with smartspace.cobot_remove_link() and install it again.")));
	close_navigation(&navigation);
	PG_RETURN_DATUM(row);
}

/* ---- remove ---- */

/*
 * cobot_remove_link(integration bigint, id text) -> text, "removed" or "was not there"
 */
Datum
navigation_remove_link(PG_FUNCTION_ARGS)
{
	char	   *id = argument_required_text(fcinfo, 1, "id");
	Navigation	navigation;
	bool		gone;

	PreventCommandIfReadOnly("cobot_remove_link()");
	if (id[0] == '\0' || pg_mbstrlen(id) > LABEL_LENGTH_LIMIT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the id must have 1 to %d characters", LABEL_LENGTH_LIMIT),
				 errhint("Take it from smartspace.cobot_list_links().")));

	open_navigation(&navigation, fcinfo);
	lock_links(navigation.integration.id);

	CobotCall  *call = cobot_delete_navigation_link(&navigation.client, id);

	cobot_perform(&call, 1);
	gone = call->outcome == COBOT_NOT_FOUND;
	if (!gone)
		check_call(&navigation, call);
	close_navigation(&navigation);
	PG_RETURN_TEXT_P(cstring_to_text(gone ? "was not there" : "removed"));
}
