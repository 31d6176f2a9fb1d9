/*
 * generate.c
 *	  Spaces, users and tokens made from a seed, and the ids that tell where in
 *	  the generator a record comes from. Members are in generate_member.c, plans
 *	  in generate_plan.c.
 */
#include "generate.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "generate_internal.h"
#include "record.h"

GeneratorState generator;

static const char *const zones[] = {
	"Europe/Berlin", "Europe/London", "America/New_York", "Pacific/Auckland", "Asia/Tokyo",
	"Asia/Kolkata", "America/Sao_Paulo", "Australia/Lord_Howe", "Europe/Istanbul", "Asia/Dubai",
	"America/Los_Angeles", "Europe/Warsaw"
};

static const char *const space_names[] = {
	"Alte Näherei", "Dock Eleven", "Lighthouse", "Halle 7", "Café Bureau", "The Greenhouse", "Østlyset",
	"Kutná Works", "Terrace", "Ŝipo", "Old Post Office", "Nordkapp", "Betahaus am See", "Workroom 東"
};

#define COUNT(array) ((int) (sizeof(array) / sizeof((array)[0])))

uint64_t
generate_mix(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t	z = a * UINT64_C(0x9e3779b97f4a7c15) ^ b * UINT64_C(0xc2b2ae3d27d4eb4f) ^ c * UINT64_C(0x165667b19e3779f9);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint64_t
generator_random(GeneratedKind kind, int space, int number)
{
	return generate_mix(generator.options.seed + ((uint64_t) kind << 56),
						(uint64_t) space + 1, (uint64_t) number + 1);
}

/*
 * 32 hexadecimal characters: 16 that check, 16 that hide space and number. Every
 * sixteenth id is written as a UUID, since Cobot has both.
 */
void
generator_write_id(GeneratedKind kind, int space, int number, char id[GENERATED_ID_SIZE])
{
	uint64_t	check = generator_random(kind, space, number);
	uint64_t	hidden = ((uint64_t) space << 32 | (uint64_t) number) ^ generator_random(kind, -1, -1);
	char		plain[33];

	snprintf(plain, sizeof(plain), "%016" PRIx64 "%016" PRIx64, check, hidden);
	if (check % 16 == 0)
		snprintf(id, GENERATED_ID_SIZE, "%.8s-%.4s-%.4s-%.4s-%.12s",
				 plain, plain + 8, plain + 12, plain + 16, plain + 20);
	else
		snprintf(id, GENERATED_ID_SIZE, "%s", plain);
}

bool
generator_read_id(GeneratedKind kind, const char *id, int *space, int *number)
{
	char		plain[33];
	int			length = 0;
	uint64_t	hidden;
	char		again[GENERATED_ID_SIZE];

	if (generator.options.spaces == 0)
		return false;
	for (const char *p = id; *p != '\0'; p++)
	{
		if (*p == '-')
			continue;
		if (length == 32)
			return false;
		plain[length++] = *p;
	}
	if (length != 32)
		return false;
	plain[32] = '\0';
	hidden = strtoull(plain + 16, NULL, 16) ^ generator_random(kind, -1, -1);
	*space = (int) (hidden >> 32);
	*number = (int) (hidden & UINT32_MAX);
	if (*space < 0 || *space >= generator.options.spaces || *number < 0)
		return false;
	generator_write_id(kind, *space, *number, again);
	return strcmp(again, id) == 0;
}

cJSON *
generate_space_record(const Space *space)
{
	cJSON	   *record = cJSON_CreateObject();
	uint64_t	random = generator_random(GENERATED_SPACE, space->generated_index, 0);
	char	   *owner = text_printf("admin-%s", space->subdomain);
	char	   *name;

	if (generator.options.spaces == 1)
		name = text_copy("Demo Space");
	else
		name = text_printf("%s %d", space_names[random % (uint64_t) COUNT(space_names)],
						   space->generated_index + 1);
	cJSON_AddStringToObject(record, "name", name);
	cJSON_AddStringToObject(record, "owner_id", owner);
	cJSON_AddStringToObject(record, "time_zone_name", space->zone);
	record_complete_space(record, space->subdomain, space->id);
	free(owner);
	free(name);
	return record;
}

Field *
generate_fields(const Space *space, int *count)
{
	static const char *const labels[GENERATED_FIELDS] = {
		"smart_spaces_access_additional_units", "Wi-Fi user name", "Locker number"
	};
	Field	   *fields = memory_zero(GENERATED_FIELDS * sizeof(Field));
	char		id[GENERATED_ID_SIZE];

	for (int i = 0; i < GENERATED_FIELDS; i++)
	{
		generator_write_id(GENERATED_FIELD, space->generated_index, i, id);
		fields[i].id = text_copy(id);
		fields[i].label = text_copy(labels[i]);
		fields[i].generated = i;
	}
	*count = GENERATED_FIELDS;
	return fields;
}

static void
add_admin(const char *id, const char *name, cJSON *admin_of, const char *token)
{
	cJSON	   *user = cJSON_CreateObject();
	char	   *email = text_printf("%s@example.com", id);

	cJSON_AddStringToObject(user, "id", id);
	cJSON_AddStringToObject(user, "email", email);
	cJSON_AddStringToObject(user, "name", name);
	cJSON_AddItemToObject(user, "admin_of", admin_of);
	user_put(user);
	token_put(token, id, NULL, NULL, all_scopes());
	free(email);
}

static void
add_space(int index)
{
	char	   *subdomain;
	char		id[GENERATED_ID_SIZE];
	const char *zone = zones[index % COUNT(zones)];
	Space	   *space;
	cJSON	   *admin_of = cJSON_CreateArray();
	char	   *user;
	char	   *token;

	if (generator.options.spaces == 1)
		subdomain = text_copy("demo-space");
	else
		subdomain = text_printf("space-%04d", index + 1);
	generator_write_id(GENERATED_SPACE, index, 0, id);
	space = space_add(subdomain, id, zone);
	space->generated_index = index;
	space->generated_members = generator.options.members + generator.options.members / GENERATED_FORMER_SHARE;

	user = text_printf("admin-%s", subdomain);
	token = text_printf("%s-%s", generator.options.admin_token, subdomain);
	cJSON_AddItemToArray(admin_of, cJSON_CreateString(subdomain));
	add_admin(user, "Space admin", admin_of, token);
	free(subdomain);
	free(user);
	free(token);
}

void
generate_world(const GenerateOptions *options)
{
	generator.options = *options;
	generator.today = clock_today("UTC");
	for (int i = 0; i < options->spaces; i++)
		add_space(i);
	add_admin("admin", "Admin of all spaces", cJSON_CreateString("all"), options->admin_token);
}
