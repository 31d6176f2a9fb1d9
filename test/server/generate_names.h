/*
 * generate_names.h
 *	  Names, streets and companies from all over the world.
 */
#ifndef COBOT_TEST_GENERATE_NAMES_H
#define COBOT_TEST_GENERATE_NAMES_H

#include <stdbool.h>

#define NAMES_PER_CULTURE 10
#define PLACES_PER_CULTURE 4

typedef struct NamePart
{
	const char *native;
	const char *ascii;			/* for e-mail addresses */
} NamePart;

typedef struct Place
{
	const char *street;
	const char *post_code;
	const char *city;
} Place;

typedef struct Culture
{
	const char *country;
	const char *dial_code;
	const char *company;		/* printf format for the family name */
	bool		family_name_first;
	NamePart	given[NAMES_PER_CULTURE];
	NamePart	family[NAMES_PER_CULTURE];
	Place		places[PLACES_PER_CULTURE];
} Culture;

extern const Culture cultures[];
extern const int culture_count;

#endif
