-- A row is a coloured object that a prompt claims.
SELECT prompt_id, noun, attribute FROM binding WHERE attribute IS NOT NULL AND kind IN ('colour', 'color')
ORDER BY prompt_id, position
