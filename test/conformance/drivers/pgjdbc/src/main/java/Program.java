import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.net.URI;
import java.sql.BatchUpdateException;
import java.sql.CallableStatement;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.UUID;
import org.postgresql.Driver;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.util.PSQLException;

/** What an application sees of PostgreSQL through pgjdbc: a line of JSON per check. */
public class Program {
  interface Check {
    Object run(Connection connection) throws Exception;
  }

  interface Call {
    void run() throws Exception;
  }

  static final String NUMBER = System.getenv("NUMBER");
  static final String TABLE = "jdbc_" + NUMBER;

  static Connection connect(String... properties) throws SQLException {
    URI uri = URI.create(System.getenv("DATABASE_URL"));
    String[] user = uri.getUserInfo().split(":");
    Properties all = new Properties();
    all.put("user", user[0]);
    all.put("password", user[1]);
    all.put("sslmode", "disable");
    for (int i = 0; i < properties.length; i += 2) {
      all.put(properties[i], properties[i + 1]);
    }
    return DriverManager.getConnection("jdbc:postgresql://" + uri.getAuthority().split("@")[1] + uri.getPath(), all);
  }

  /** The SQLSTATE that a call ends with. */
  static String state(Call call) throws Exception {
    try {
      call.run();
    } catch (SQLException e) {
      return e.getSQLState();
    }
    return "00000";
  }

  static void execute(Connection connection, String... statements) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      for (String sql : statements) {
        statement.execute(sql);
      }
    }
  }

  /** The first column of all rows. */
  static List<String> column(Connection connection, String sql, Object... parameters) throws SQLException {
    List<String> values = new ArrayList<>();
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      for (int i = 0; i < parameters.length; i++) {
        statement.setObject(i + 1, parameters[i]);
      }
      try (ResultSet rows = statement.executeQuery()) {
        while (rows.next()) {
          values.add(rows.getString(1));
        }
      }
    }
    return values;
  }

  static Object types(Connection connection) throws SQLException {
    Object[][] values = {
      {1, "int4"}, {-(1L << 62), "int8"}, {new BigDecimal("123456.789012345678901234567890"), "numeric"}, {0.1, "float8"},
      {"ünï 'quoted' \\ \n", "text"}, {new byte[] {0, -1, 92}, "bytea"}, {true, "bool"}, {UUID.fromString("00000000-0000-0000-0000-000000000007"), "uuid"},
      {OffsetDateTime.of(2024, 2, 29, 1, 2, 3, 4000, ZoneOffset.UTC), "timestamptz"}, {connection.createArrayOf("int4", new Integer[] {1, null, 3}), "int4[]"},
    };
    List<Object> seen = new ArrayList<>();
    for (Object[] value : values) {
      // The driver changes to binary formats when it has prepared the statement on the server.
      try (PreparedStatement statement = connection.prepareStatement("SELECT ?::" + value[1])) {
        for (int i = 0; i < 7; i++) {
          statement.setObject(1, value[0]);
          try (ResultSet rows = statement.executeQuery()) {
            rows.next();
            if (i == 0 || i == 6) {
              seen.add(rows.getObject(1) instanceof byte[] bytes ? List.of(bytes[0], bytes[1], bytes[2]) : rows.getString(1));
            }
          }
        }
      }
    }
    return seen;
  }

  /** The driver prepares a statement on the server when it has run it prepareThreshold times, 5 by default. */
  static Object prepared(Connection connection) throws SQLException {
    List<Object> seen = new ArrayList<>();
    try (PreparedStatement statement = connection.prepareStatement("SELECT ?::int4 + 1")) {
      for (int i = 0; i < 12; i++) {
        statement.setInt(1, i);
        try (ResultSet rows = statement.executeQuery()) {
          rows.next();
          seen.add(rows.getInt(1));
        }
      }
    }
    return seen;
  }

  /** More statements than the driver's own cache holds, in every mode. */
  static Object preparedMany(Connection ignored) throws SQLException {
    List<Object> seen = new ArrayList<>();
    for (String mode : new String[] {"extended", "extendedForPrepared", "extendedCacheEverything", "simple"}) {
      try (Connection connection = connect("preferQueryMode", mode, "prepareThreshold", "2", "preparedStatementCacheQueries", "40")) {
        long sum = 0;
        for (int round = 0; round < 4; round++) {
          for (int i = 0; i < 60; i++) {
            sum += Long.parseLong(column(connection, "SELECT ?::int4 + " + i, i).get(0));
          }
        }
        seen.add(sum);
      }
    }
    return seen;
  }

  static Object commitAndRollback(Connection connection) throws SQLException {
    execute(connection, "CREATE TABLE " + TABLE + " (id int PRIMARY KEY, note text)");
    connection.setAutoCommit(false);
    execute(connection, "INSERT INTO " + TABLE + " VALUES (1, 'kept')");
    connection.commit();
    connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
    execute(connection, "INSERT INTO " + TABLE + " VALUES (2, 'not kept')");
    connection.rollback();
    connection.setReadOnly(true);
    List<Object> seen = new ArrayList<>();
    try {
      seen.add(state(() -> execute(connection, "INSERT INTO " + TABLE + " VALUES (9, 'read only')")));
    } catch (Exception e) {
      seen.add(e.toString());
    }
    connection.rollback();
    connection.setReadOnly(false);
    seen.add(connection.getTransactionIsolation());
    connection.rollback();
    connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
    connection.setAutoCommit(true);
    seen.addAll(column(connection, "SELECT id || note FROM " + TABLE + " ORDER BY id"));
    return seen;
  }

  static Object savepoints(Connection connection) throws Exception {
    connection.setAutoCommit(false);
    Savepoint savepoint = connection.setSavepoint("a");
    List<Object> seen = new ArrayList<>();
    seen.add(state(() -> execute(connection, "INSERT INTO " + TABLE + " VALUES (1, 'twice')")));
    seen.add(state(() -> execute(connection, "SELECT 1")));
    connection.rollback(savepoint);
    execute(connection, "INSERT INTO " + TABLE + " VALUES (3, 'behind')");
    connection.commit();
    connection.setAutoCommit(true);
    seen.addAll(column(connection, "SELECT id FROM " + TABLE + " ORDER BY id"));
    return seen;
  }

  static Object errors(Connection connection) {
    List<Object> seen = new ArrayList<>();
    for (String sql : new String[] {
      "SELEC", "SELECT * FROM nowhere", "SELECT 1/0", "SELECT 'x'::int", "INSERT INTO " + TABLE + " VALUES (1)",
      "INSERT INTO " + TABLE + " VALUES (NULL)", "SELECT nothing()", "DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'ABCDE'; END $$",
    }) {
      try {
        column(connection, sql);
        seen.add("00000");
      } catch (PSQLException e) {
        var message = e.getServerErrorMessage();
        seen.add(e.getSQLState() + " " + (message == null ? e.getMessage() : message.getMessage().replace(NUMBER, "") + " " + message.getPosition()));
      } catch (SQLException e) {
        seen.add(e.toString());
      }
    }
    return seen;
  }

  static Object warnings(Connection connection) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      statement.execute("DO $$ BEGIN RAISE NOTICE 'hear %', 'me'; END $$");
      return statement.getWarnings().getMessage();
    }
  }

  static Object severalStatements(Connection connection) throws SQLException {
    List<Object> seen = new ArrayList<>();
    try (Statement statement = connection.createStatement()) {
      boolean rows = statement.execute("INSERT INTO " + TABLE + " VALUES (50, 'x'); SELECT 1; SELECT 2");
      while (rows || statement.getUpdateCount() >= 0) {
        seen.add(rows ? "rows" : "count " + statement.getUpdateCount());
        rows = statement.getMoreResults();
      }
    }
    return seen;
  }

  static Object batch(Connection connection) throws SQLException {
    List<Object> seen = new ArrayList<>();
    try (PreparedStatement statement = connection.prepareStatement("INSERT INTO " + TABLE + " VALUES (?, ?)")) {
      for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 100; i++) {
          statement.setInt(1, 100 + 100 * round + i);
          statement.setString(2, "many");
          statement.addBatch();
        }
        seen.add(statement.executeBatch().length);
      }
      for (int id : new int[] {900, 100, 901}) {
        statement.setInt(1, id);
        statement.setString(2, "twice");
        statement.addBatch();
      }
      try {
        statement.executeBatch();
      } catch (BatchUpdateException e) {
        seen.add(e.getSQLState() + " " + e.getUpdateCounts().length);
      }
    }
    try (Connection rewriting = connect("reWriteBatchedInserts", "true");
        PreparedStatement statement = rewriting.prepareStatement("INSERT INTO " + TABLE + " VALUES (?, ?)")) {
      for (int i = 0; i < 70; i++) {
        statement.setInt(1, 600 + i);
        statement.setString(2, "rewritten");
        statement.addBatch();
      }
      seen.add(statement.executeBatch().length);
    }
    seen.addAll(column(connection, "SELECT count(*) FROM " + TABLE));
    return seen;
  }

  static Object generatedKeys(Connection connection) throws SQLException {
    execute(connection, "CREATE TABLE " + TABLE + "_keys (id serial, note text)");
    try (PreparedStatement statement =
        connection.prepareStatement("INSERT INTO " + TABLE + "_keys (note) VALUES (?)", Statement.RETURN_GENERATED_KEYS)) {
      List<Object> seen = new ArrayList<>();
      for (int i = 0; i < 7; i++) {
        statement.setString(1, "x");
        statement.executeUpdate();
        try (ResultSet keys = statement.getGeneratedKeys()) {
          keys.next();
          seen.add(keys.getInt(1));
        }
      }
      return seen;
    }
  }

  static Object call(Connection connection) throws SQLException {
    execute(connection, "CREATE FUNCTION " + TABLE + "_twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n'");
    try (CallableStatement statement = connection.prepareCall("{? = call " + TABLE + "_twice(?)}")) {
      statement.registerOutParameter(1, Types.INTEGER);
      statement.setInt(2, 21);
      statement.execute();
      return statement.getInt(1);
    }
  }

  static Object metadata(Connection connection) throws SQLException {
    List<Object> seen = new ArrayList<>();
    try (ResultSet columns = connection.getMetaData().getColumns(null, null, TABLE, null)) {
      while (columns.next()) {
        seen.add(columns.getString("COLUMN_NAME") + " " + columns.getString("TYPE_NAME"));
      }
    }
    return seen;
  }

  static Object copy(Connection connection) throws Exception {
    StringBuilder lines = new StringBuilder();
    for (int i = 0; i < 5000; i++) {
      lines.append(1000 + i).append("\tcopied\n");
    }
    var manager = connection.unwrap(PGConnection.class).getCopyAPI();
    List<Object> seen = new ArrayList<>();
    seen.add(manager.copyIn("COPY " + TABLE + " FROM STDIN", new StringReader(lines.toString())));
    StringWriter out = new StringWriter();
    seen.add(manager.copyOut("COPY (SELECT id FROM " + TABLE + " WHERE id >= 1000) TO STDOUT", out));
    seen.add(out.toString().lines().mapToLong(Long::parseLong).sum());
    seen.add(state(() -> manager.copyIn("COPY " + TABLE + " FROM STDIN", new StringReader("no number\tx\n"))));
    var given = manager.copyIn("COPY " + TABLE + " FROM STDIN");
    given.cancelCopy();
    seen.addAll(column(connection, "SELECT 1"));
    return seen;
  }

  static Object cancel(Connection connection) throws Exception {
    List<Object> seen = new ArrayList<>();
    try (Statement statement = connection.createStatement()) {
      statement.setQueryTimeout(1);
      seen.add(state(() -> statement.execute("SELECT pg_sleep(60)")));
    }
    seen.addAll(column(connection, "SELECT 1"));
    return seen;
  }

  static Object listen(Connection connection) throws SQLException {
    execute(connection, "LISTEN " + TABLE, "NOTIFY " + TABLE + ", 'own'");
    try (Connection other = connect()) {
      column(other, "SELECT pg_notify(?, 'from another')", TABLE);
    }
    List<Object> seen = new ArrayList<>();
    while (seen.size() < 2) {
      PGNotification[] heard = connection.unwrap(PGConnection.class).getNotifications(10_000);
      if (heard.length == 0) {
        break;
      }
      for (PGNotification n : heard) {
        seen.add(n.getParameter());
      }
    }
    execute(connection, "UNLISTEN *");
    return seen;
  }

  static Object large(Connection connection) throws SQLException {
    long bytes = column(connection, "SELECT repeat('x', 200) FROM generate_series(1, 20000) i").stream().mapToLong(String::length).sum();
    return List.of(bytes, column(connection, "SELECT ?::text", "y".repeat(5_000_000)).get(0).length());
  }

  /** With a fetch size, the driver reads a portal in parts. */
  static Object fetchSize(Connection connection) throws SQLException {
    connection.setAutoCommit(false);
    int count = 0;
    try (Statement statement = connection.createStatement()) {
      statement.setFetchSize(70);
      try (ResultSet rows = statement.executeQuery("SELECT * FROM generate_series(1, 1000)")) {
        while (rows.next()) {
          count++;
          if (count == 300) {
            column(connection, "SELECT 1"); // between the parts
          }
        }
      }
    }
    connection.commit();
    connection.setAutoCommit(true);
    return count;
  }

  static Object settings(Connection connection) throws SQLException {
    String zone = NUMBER.equals("1") ? "Asia/Tokyo" : "America/New_York";
    execute(connection, "CREATE SCHEMA s" + NUMBER, "CREATE TABLE s" + NUMBER + ".mine AS SELECT " + NUMBER + " AS number", "SET TimeZone = '" + zone + "'");
    connection.setSchema("s" + NUMBER);
    column(connection, "SELECT set_config('app.tenant', ?, false)", NUMBER);
    int same = 0;
    for (int i = 0; i < 40; i++) {
      String row = column(connection, "SELECT (SELECT number FROM mine) || current_setting('TimeZone') || current_setting('app.tenant')").get(0);
      same += row.equals(NUMBER + zone + NUMBER) ? 1 : 0;
    }
    connection.setClientInfo("ApplicationName", "named");
    return List.of(same, connection.getSchema().replace(NUMBER, ""), column(connection, "SHOW application_name").get(0));
  }

  static Object localSettings(Connection connection) throws SQLException {
    List<Object> seen = new ArrayList<>();
    connection.setAutoCommit(false);
    execute(connection, "SET LOCAL statement_timeout = '7s'");
    seen.addAll(column(connection, "SHOW statement_timeout"));
    connection.commit();
    execute(connection, "SET statement_timeout = '8s'");
    connection.rollback();
    seen.addAll(column(connection, "SHOW statement_timeout"));
    connection.rollback();
    connection.setAutoCommit(true);
    return seen;
  }

  static Object temporaryTable(Connection connection) throws SQLException {
    execute(connection, "CREATE TEMPORARY TABLE scratch (id int)");
    for (int i = 0; i < 9; i++) {
      try (PreparedStatement statement = connection.prepareStatement("INSERT INTO scratch VALUES (?)")) {
        statement.setInt(1, i);
        statement.executeUpdate();
      }
    }
    List<String> seen = column(connection, "SELECT sum(id) FROM scratch");
    execute(connection, "DROP TABLE scratch");
    return seen;
  }

  static Object holdableCursor(Connection connection) throws SQLException {
    connection.setAutoCommit(false);
    int count = 0;
    try (Statement statement = connection.createStatement(ResultSet.TYPE_FORWARD_ONLY, ResultSet.CONCUR_READ_ONLY, ResultSet.HOLD_CURSORS_OVER_COMMIT);
        ResultSet rows = statement.executeQuery("SELECT * FROM generate_series(1, 100)")) {
      while (rows.next()) {
        count++;
        if (count == 50) {
          connection.commit();
        }
      }
    }
    connection.setAutoCommit(true);
    return count;
  }

  static Object alteredTable(Connection connection) throws Exception {
    String name = TABLE + "_altered";
    execute(connection, "CREATE TABLE " + name + " (a int)", "INSERT INTO " + name + " VALUES (1)");
    List<Object> seen = new ArrayList<>();
    try (PreparedStatement statement = connection.prepareStatement("SELECT * FROM " + name)) {
      for (int i = 0; i < 9; i++) {
        if (i == 6) {
          execute(connection, "ALTER TABLE " + name + " ADD b text DEFAULT 'new'");
        }
        seen.add(state(() -> {
          try (ResultSet rows = statement.executeQuery()) {
            seen.add(rows.getMetaData().getColumnCount());
          }
        }));
      }
    }
    return seen;
  }

  /** A value as JSON: what is no number is shown as text. */
  static String json(Object value) {
    if (value instanceof List<?> list) {
      StringBuilder b = new StringBuilder("[");
      for (Object item : list) {
        b.append(b.length() > 1 ? "," : "").append(json(item));
      }
      return b.append("]").toString();
    }
    if (value instanceof Number) {
      return value.toString();
    }
    StringBuilder b = new StringBuilder("\"");
    for (char c : String.valueOf(value).toCharArray()) {
      b.append(c < ' ' || c == '"' || c == '\\' ? String.format("\\u%04x", (int) c) : String.valueOf(c));
    }
    return b.append("\"").toString();
  }

  public static void main(String[] arguments) throws Exception {
    Map<String, Check> checks = new LinkedHashMap<>();
    checks.put("driver", c -> "pgjdbc " + Driver.class.getPackage().getImplementationVersion());
    checks.put("types", Program::types);
    checks.put("prepared", Program::prepared);
    checks.put("prepared-many", Program::preparedMany);
    checks.put("commit-and-rollback", Program::commitAndRollback);
    checks.put("savepoints", Program::savepoints);
    checks.put("errors", Program::errors);
    checks.put("warnings", Program::warnings);
    checks.put("several-statements", Program::severalStatements);
    checks.put("batch", Program::batch);
    checks.put("generated-keys", Program::generatedKeys);
    checks.put("call", Program::call);
    checks.put("metadata", Program::metadata);
    checks.put("copy", Program::copy);
    checks.put("cancel", Program::cancel);
    checks.put("listen", Program::listen);
    checks.put("large", Program::large);
    checks.put("fetch-size", Program::fetchSize);
    checks.put("settings", Program::settings);
    checks.put("local-settings", Program::localSettings);
    checks.put("temporary-table", Program::temporaryTable);
    checks.put("holdable-cursor", Program::holdableCursor);
    checks.put("altered-table", Program::alteredTable);
    Connection connection = connect();
    for (var check : checks.entrySet()) {
      Object saw;
      try {
        saw = check.getValue().run(connection);
      } catch (Exception e) {
        saw = e + (e instanceof SQLException sql ? " " + sql.getSQLState() : "");
        connection.close();
        connection = connect();
      }
      System.out.println("{\"check\":" + json(check.getKey()) + ",\"saw\":" + json(saw) + "}");
    }
  }
}
