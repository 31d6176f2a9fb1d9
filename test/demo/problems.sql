-- What the view cobot_problem says, one line for each.
SELECT replace(subject, 'membership ', '') || ': ' || detail FROM cobot_problem ORDER BY problem, membership_id;
