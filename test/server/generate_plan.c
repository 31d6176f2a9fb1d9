/*
 * generate_plan.c
 *	  The plan catalogue of a generated space.
 */
#include "generate_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "record.h"

/* Ends every description: a full record is to be as large as Cobot's, about 3 kB. */
static const char house_rules[] =
	"\n\nHouse rules: be kind, take calls in the booths, leave the kitchen as you would like to find it. Die Küche räumt "
	"sich nicht von selbst auf. Dogs are welcome on the lower floor if they get on with each other; cats decide for "
	"themselves. The front desk is staffed from nine to five on working days. Outside these hours the doors open with "
	"the app. In an emergency dial the number on the notice beside the lift. Post arrives at eleven and is sorted by "
	"noon. Bicycles go in the yard, not in the hall. Prices are net of tax and may change once a year with six weeks' "
	"notice. Zahlung monatlich im Voraus; Kündigung in Textform genügt.";

typedef struct PlanModel
{
	const char *name;
	const char *color;
	int			price;			/* whole euros */
	int			passes;			/* time passes included per month, 0 = none needed */
	const char *description;
} PlanModel;

static const PlanModel models[] = {
	{"Full Time", "#27ae60", 240, 0,
		"Ihr eigener Platz rund um die Uhr: höhenverstellbarer Tisch, abschließbarer Schrank, Postadresse. "
		"Your own desk around the clock with a height-adjustable table, a locker, a postal address, unlimited "
		"printing in black and white, and as much coffee as is good for you. Meeting rooms are included up to "
		"the credits below; guests are welcome for two hours a day at no charge."},
	{"Flex Desk", "#2980b9", 140, 0,
		"Any free desk in the open area, Monday to Sunday. Please clear it in the evening. Wi-Fi, tea and coffee, "
		"phone booths (first come, first served) and the roof terrace are included. Lockers can be rented as an "
		"extra. Événements réservés aux membres: le premier jeudi de chaque mois, apéro sur la terrasse à 18 h."},
	{"Ten Days", "#8e44ad", 95, 10,
		"Ten days a month, to be used as you like. Each check-in uses up one pass and lasts until four o'clock in "
		"the morning. Unused passes end with the month. You can buy single days on top at the price shown. 月に10日間、"
		"お好きな日にご利用いただけます。 Access from eight to eight; the side entrance opens with the app."},
	{"Team Room", "#c0392b", 890, 0,
		"A room of your own for up to six people, with a door that closes. Furniture on request. The price covers "
		"cleaning twice a week, heating, electricity and one parking space. Minimum term three months. Rozmowy "
		"telefoniczne bez ograniczeń, sala konferencyjna według limitu godzin poniżej."},
	{"Evening & Weekend", "#f39c12", 60, 0,
		"From five in the afternoon on working days, and all day on Saturday and Sunday. The quiet hours are the "
		"best ones: people write novels here. Lüften nicht vergessen, und bitte die Fenster schließen, wer als "
		"Letzter geht. Includes Wi-Fi, tea, coffee and one locker of the small kind."},
	{"Friends of the House", "#7f8c8d", 0, 0,
		"Not for sale: for speakers, neighbours and former members whom we like to see again. Gilt bis auf Widerruf. "
		"No meeting room credits, no postal address, but coffee. Ask at the front desk before you bring guests, "
		"and tell us when you move on so that somebody else can have the place."}
};

#define MODEL_COUNT ((int) (sizeof(models) / sizeof(models[0])))

static void
add_amount(cJSON *object, const char *key, int amount)
{
	char		text[40];

	snprintf(text, sizeof(text), "%d.0", amount);
	cJSON_AddStringToObject(object, key, text);
}

static cJSON *
priced(const char *id, const char *name, int price)
{
	cJSON	   *item = cJSON_CreateObject();

	cJSON_AddStringToObject(item, "id", id);
	cJSON_AddStringToObject(item, "name", name);
	add_amount(item, "price", price);
	cJSON_AddNumberToObject(item, "price_in_cents", price * 100);
	cJSON_AddStringToObject(item, "tax_rate", "19.0");
	cJSON_AddStringToObject(item, "currency", "EUR");
	return item;
}

static cJSON *
extras(const Space *space, int plan)
{
	static const char *const names[] = {"Locker", "Postal address", "Second monitor", "Parking space"};
	const int	count = (int) (sizeof(names) / sizeof(names[0]));
	cJSON	   *array = cJSON_CreateArray();
	char		id[GENERATED_ID_SIZE];

	for (int i = 0; i < count; i++)
	{
		generator_write_id(GENERATED_EXTRA, space->generated_index, plan * count + i, id);
		cJSON_AddItemToArray(array, priced(id, names[i], 10 + 15 * i));
	}
	return array;
}

static cJSON *
booking_credits(void)
{
	return cJSON_Parse("[{\"resources\":[{\"id\":\"room-aquarium\",\"name\":\"Aquarium\"},{\"id\":\"room-bühne\",\"name\":\"Bühne\"}],"
					   "\"hours\":\"6.0\",\"price_per_hour\":\"12.0\"},"
					   "{\"resources\":[{\"id\":\"phone-booth-1\",\"name\":\"Phone booth 1\"}],\"hours\":\"20.0\",\"price_per_hour\":\"2.0\"}]");
}

static cJSON *
time_passes(const PlanModel *model)
{
	cJSON	   *array = cJSON_CreateArray();
	cJSON	   *pass;

	if (model->passes == 0)
		return array;
	pass = priced("0", "Day Pass", 12);
	cJSON_AddStringToObject(pass, "timespans", "4-3:59");
	cJSON_AddItemToObject(pass, "parsed_timespans",
						  cJSON_Parse("[{\"from_hour\":4,\"from_minute\":0,\"to_hour\":3,\"to_minute\":59,\"weekdays\":[]}]"));
	cJSON_AddNumberToObject(pass, "included_per_timespan", model->passes);
	cJSON_AddStringToObject(pass, "included_timespan", "month");
	cJSON_AddItemToObject(pass, "discounts", cJSON_CreateArray());
	cJSON_AddItemToArray(array, pass);
	return array;
}

cJSON *
generate_plans(const Space *space)
{
	cJSON	   *plans = cJSON_CreateArray();

	for (int i = 0; space->generated_index >= 0 && i < generator.options.plans; i++)
	{
		const PlanModel *model = &models[i % MODEL_COUNT];
		cJSON	   *plan = cJSON_CreateObject();
		char		id[GENERATED_ID_SIZE];
		char	   *name = i < MODEL_COUNT ? text_copy(model->name)
			: text_printf("%s %d", model->name, i / MODEL_COUNT + 1);
		char	   *description = text_printf("%s%s", model->description, house_rules);

		generator_write_id(GENERATED_PLAN, space->generated_index, i, id);
		cJSON_AddStringToObject(plan, "id", id);
		cJSON_AddStringToObject(plan, "name", name);
		cJSON_AddStringToObject(plan, "color", model->color);
		add_amount(plan, "price_per_cycle", model->price);
		cJSON_AddNumberToObject(plan, "price_per_cycle_in_cents", model->price * 100);
		cJSON_AddStringToObject(plan, "description", description);
		cJSON_AddStringToObject(plan, "welcome_message", "Welcome! Herzlich willkommen! Witamy! ようこそ!");
		cJSON_AddItemToObject(plan, "booking_credits", booking_credits());
		cJSON_AddItemToObject(plan, "time_passes", time_passes(model));
		cJSON_AddItemToObject(plan, "extras", extras(space, i));

		/* From three plans on, the last one is not offered to the public. */
		if (generator.options.plans >= 3 && i == generator.options.plans - 1)
			cJSON_AddTrueToObject(plan, "hidden");
		record_complete_plan(plan);
		cJSON_AddItemToArray(plans, plan);
		free(name);
		free(description);
	}
	return plans;
}
