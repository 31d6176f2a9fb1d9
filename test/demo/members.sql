-- Each member with the user groups, their sources and their dates.
SELECT m.name AS "Member", m.plan_name AS "Plan",
	coalesce(string_agg(g.name || CASE a.source WHEN 'individual' THEN ' (custom field)' ELSE '' END, ', ' ORDER BY g.id), '-')
	|| CASE WHEN m.departed_at IS NOT NULL THEN ' (left)'
		WHEN min(lower(a.valid)) > now() THEN to_char(min(lower(a.valid)), '", from" FMDD FMMonth')
		WHEN max(upper(a.valid)) IS NOT NULL THEN to_char(max(upper(a.valid)) - interval '1 second', '", until" FMDD FMMonth')
		ELSE '' END AS "User groups"
FROM cobot_membership m
	LEFT JOIN user_group_member a ON a.membership_id = m.id
	LEFT JOIN user_group g ON g.id = a.user_group_id
GROUP BY m.id
ORDER BY m.id;
