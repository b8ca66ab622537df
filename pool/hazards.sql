WITH RECURSIVE builtin AS MATERIALIZED ( -- what PostgreSQL has that changes a session, tells of it, or runs the SQL that it is given
  SELECT oid, proname FROM pg_proc WHERE oid < 16384
    AND proname ~ $r$^(set_config|currval|lastval|pg_(try_)?advisory_(un)?lock.*|.*_to_xml.*|ts_stat|ts_rewrite)$$r$
), tree(body, fired) AS ( -- expressions that PostgreSQL keeps as trees, in which functions are numbers; fired: that a write comes upon
  SELECT ev_action::text, ev_type <> '1' FROM pg_rewrite WHERE oid >= 16384
  UNION ALL SELECT ev_qual::text, ev_type <> '1' FROM pg_rewrite WHERE oid >= 16384
  UNION ALL SELECT adbin::text, true FROM pg_attrdef WHERE oid >= 16384
  UNION ALL SELECT conbin::text, true FROM pg_constraint WHERE oid >= 16384
  UNION ALL SELECT polqual::text, true FROM pg_policy
  UNION ALL SELECT polwithcheck::text, true FROM pg_policy
  UNION ALL SELECT tgqual::text, true FROM pg_trigger WHERE oid >= 16384
  UNION ALL SELECT typdefaultbin::text, true FROM pg_type WHERE oid >= 16384
  UNION ALL SELECT proargdefaults::text, false FROM pg_proc WHERE oid >= 16384
  UNION ALL SELECT to_jsonb(p)->>'prosqlbody', false FROM pg_proc p WHERE oid >= 16384 AND prolang = 14 AND prosrc = ''
), call(expression) AS MATERIALIZED (
  SELECT $r$:\w*(?:funcid|fnoid) ($r$ || string_agg(oid::text, '|') || $r$)\M$r$ FROM builtin
), source AS ( -- of functions by name, and of what runs without being named, which has none, or + if a write comes upon it
  SELECT p.proname::text AS function, l.lanname AS language, p.prosrc AS source, false AS compiled FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
    WHERE p.oid >= 16384 AND l.lanname IN ('sql', 'plpgsql')
  UNION ALL SELECT p.proname, 'sql', CASE WHEN p.proname = 'set_limit' THEN 'set pg_trgm.similarity_threshold' ELSE 'execute' END, l.lanname IN ('c', 'internal') FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
    WHERE p.oid >= 16384 AND l.lanname NOT IN ('sql', 'plpgsql') AND p.prokind <> 'a'
    AND NOT (l.lanname = 'internal' AND p.prosrc ~ '^(multi)?range_constructor')
    AND NOT (l.lanname IN ('c', 'internal') AND EXISTS (
      SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
        WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
        AND (e.extname = 'pg_trgm' AND p.proname <> 'set_limit' OR e.extname IN ( -- known to leave the session alone
          'amcheck', 'bloom', 'btree_gin', 'btree_gist', 'citext', 'cube', 'dict_int', 'dict_xsyn', 'earthdistance', 'file_fdw', 'fuzzystrmatch',
          'hstore', 'intarray', 'isn', 'lo', 'ltree', 'moddatetime', 'pg_buffercache', 'pg_freespacemap', 'pg_prewarm',
          'pg_stat_statements', 'pg_visibility', 'pgcrypto', 'pgrowlocks', 'pgstattuple', 'postgres_fdw', 'seg', 'sslinfo',
          'tsm_system_rows', 'tsm_system_time', 'unaccent', 'uuid-ossp'))))
  UNION ALL SELECT CASE WHEN fired THEN '+' END, 'sql', b.proname, false FROM (
      SELECT DISTINCT m[1] AS oid, fired FROM call, tree, regexp_matches(body, call.expression, 'g') m WHERE body ~ call.expression
    ) called JOIN builtin b ON b.oid = called.oid::oid
  UNION ALL SELECT NULL, 'sql', b.proname, false FROM builtin b
    WHERE EXISTS (SELECT FROM pg_operator o WHERE o.oid >= 16384 AND o.oprcode = b.oid)
    OR EXISTS (SELECT FROM pg_cast c WHERE c.oid >= 16384 AND c.castfunc = b.oid)
    OR EXISTS (SELECT FROM pg_aggregate a WHERE a.aggfnoid >= 16384 AND b.oid IN (
      a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn))
), bare AS ( -- without the comments that are certain to be some, or parts of strings
  SELECT function, language, compiled, regexp_replace(regexp_replace(source, $r$/\*[^\n\r'"$*]*\*/$r$, ' ', 'g'), $r$--[^\n\r'"$*]*(?=[\n\r]|$)$r$, ' ', 'g') AS body
  FROM source WHERE source ~* $r$set|execute|create|import|into|pg_temp|listen|advisory|hold|prepare|lastval|currval|discard|u&|_to_xml|ts_stat|ts_rewrite|extension|procedure|function|language$r$
  OFFSET 0
), commands AS ( -- without what looks like SET but is UPDATE ... SET or ends with the transaction
  SELECT function, language, compiled, body AS whole, CASE WHEN body ~ $r$--|/\*$r$ THEN body ELSE
    regexp_replace(regexp_replace(body,
      $r$\mset\s+(?:local|transaction|constraints)\M(?!\s*\.)|\mset_config\s*\(\s*'[^']*'\s*,(?:'[^']*'|[^();'"$]|\$\d)*,\s*true\s*\)$r$, ' ', 'gi'),
      $r$\mupdate(?:\s+only)?(?:\s+(?!(?:begin|then|else|loop|of|skip|nowait)\M)(?!"?pg_settings\M)(?:[a-z_]\w*|"[^"';$\n\r]+")(?:\s*\.\s*(?!"?pg_settings\M)(?:[a-z_]\w*|"[^"';$\n\r]+"))*){0,3}(?:\s*\*)?\s+set\M$r$, ' ', 'gi')
    END AS body
  FROM bare OFFSET 0
), direct AS MATERIALIZED (
  SELECT DISTINCT function, hazard, compiled FROM commands, LATERAL (
    SELECT 'anything' WHERE body ~* $r$\m(execute|discard|language|extension)\M|\m(create|alter|replace)\s+(function|procedure|routine|aggregate)\M|_to_xml|\mts_(stat|rewrite)\M|\mu&["']$r$
    UNION ALL SELECT 'local' WHERE -- what applications name changes no text's meaning
      regexp_replace(whole, $r$\mset_config"?\s*\(\s*'[a-z_][\w$]*(?:\.[a-z_][\w$]*)+'\s*,|\mset\s+local\s+[a-z_][\w$]*\.$r$, ' ', 'gi')
      ~* $r$\mset_config\M|\mset\M.*\mlocal\M$r$
    UNION ALL SELECT 'settings' WHERE body ~* $r$\mpg_settings\M$r$
      OR regexp_replace(body, $r$\mset_config"?\s*\(\s*'[a-z_][\w$]*(?:\.[a-z_][\w$]*)*'\s*,$r$, ' ', 'gi') ~* $r$\mset_config\M$r$
      OR regexp_replace(body, $r$\m(?:set|reset)\s+(?:session\s+)?(?!(?:time|names|schema|xml|session|characteristics|authorization|all)\M)(?:[a-z_]|"[a-z_][\w$.]*")$r$, ' ', 'gi') ~* $r$\m(set|reset)\M$r$
    UNION ALL SELECT 'temporary' WHERE body ~* $r$\m(create|import|pg_temp)\M$r$
      OR language = 'sql' AND regexp_replace(body, $r$\m(insert|merge)\s+into\M$r$, ' ', 'gi') ~* $r$\minto\M$r$
    UNION ALL SELECT 'channels' WHERE body ~* $r$\m(un)?listen\M$r$
    UNION ALL SELECT 'locks' WHERE body ~* $r$advisory_(?!xact_)$r$
    UNION ALL SELECT 'cursors' WHERE body ~* $r$\mhold\M$r$
    UNION ALL SELECT 'prepared' WHERE body ~* $r$\mprepare\M$r$
    UNION ALL SELECT 'numbers' WHERE body ~* $r$\m(currval|lastval)\M$r$
    UNION ALL SELECT 'set ' || lower(m[1]) FROM regexp_matches(body, $r$\mset_config"?\s*\(\s*'([a-z_][\w$]*(?:\.[a-z_][\w$]*)*)'\s*,$r$, 'gi') m
    UNION ALL SELECT 'set ' || lower(concat_ws('.', m[1], m[2]))
      FROM regexp_matches(body, $r$\m(?:set|reset)\s+(?:session\s+)?"?([a-z_][\w$]*(?:\.[a-z_][\w$]*)?)"?(?:\s*\.\s*"?([a-z_][\w$]*)"?)?$r$, 'gi') m
  ) found(hazard)
), mention AS ( -- one function of another, by a word that is its name, or as PostgreSQL has noted
  SELECT DISTINCT p.proname::text AS caller, left(long, 63) AS word FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang,
    unnest(string_to_array(translate(lower(p.prosrc COLLATE "C"), E' \t\n\r\f\x0b!"#$%&''()*+,-./:;<=>?@[\\]^`{|}~', repeat(' ', 37)), ' ')) long
    WHERE p.oid >= 16384 AND l.lanname IN ('sql', 'plpgsql') AND left(long, 63) IN (SELECT proname::text FROM pg_proc WHERE oid >= 16384)
    AND EXISTS (SELECT FROM direct WHERE function <> '+')
  UNION SELECT caller.proname, p.proname FROM pg_depend d JOIN pg_proc caller ON caller.oid = d.objid JOIN pg_proc p ON p.oid = d.refobjid
    WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_proc'::regclass
), hazard AS (
  SELECT function, hazard, compiled FROM direct
  UNION SELECT m.caller, h.hazard, h.compiled FROM hazard h JOIN mention m ON m.word = h.function
), unnamed AS ( -- functions of triggers, defaults, views, operators and such, and those whose names are written with quotes
  SELECT proname::text AS function FROM pg_proc WHERE oid >= 16384 AND proname !~ '^[a-z_][a-z0-9_]*$'
  UNION SELECT p.proname FROM pg_depend d JOIN pg_proc p ON p.oid = d.refobjid
    WHERE p.oid >= 16384 AND d.refclassid = 'pg_proc'::regclass AND d.classid NOT IN ('pg_proc'::regclass, 'pg_language'::regclass)
), fired AS ( -- those of them that a write comes upon
  SELECT p.proname::text AS function FROM pg_depend d JOIN pg_proc p ON p.oid = d.refobjid LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    WHERE p.oid >= 16384 AND d.refclassid = 'pg_proc'::regclass
    AND (d.classid IN ('pg_trigger'::regclass, 'pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_policy'::regclass, 'pg_type'::regclass) OR r.ev_type <> '1')
)
SELECT DISTINCT who || ' ' || hazard FROM hazard, LATERAL (
  SELECT CASE WHEN function = '+' OR function IN (SELECT function FROM unnamed) THEN '*' ELSE coalesce(function, '*') END
  UNION ALL SELECT '+' WHERE NOT compiled AND -- nobody knows what that does: extensions bring many types and defaults
    (function = '+' OR function IN (SELECT function FROM fired))
) of_whom(who)
