-- What cobot_preview() says, one line for each record.
SELECT format('would be %s  %s: %s', verdict, coalesce(member, cobot_id), replace(what, '_', ' '))
	|| coalesce(', gains ' || array_to_string(gains, ', '), '') || coalesce(', loses ' || array_to_string(loses, ', '), '')
FROM cobot_preview(1);
