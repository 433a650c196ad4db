namespace Backend.Toolkit.Pagination.Tests;

/// <summary>A row of a table with a million of them.</summary>
public sealed record Order(int Id, DateTime Created, int Status, DateTime? Shipped);

/// <summary>The keysets of the million: each has an index.</summary>
internal static class Orders
{
    public const string Select = "SELECT id, created, status, shipped, note FROM orders";

    public static IReadOnlyList<(string Name, string Index, Keyset<Order> Keyset)> Keysets { get; } =
    [
        ("same direction", "same_direction", Keyset.For<Order>().Descending(o => o.Created, "created").Unique(o => o.Id, "id")),
        ("against the index", "same_direction", Keyset.For<Order>().Ascending(o => o.Created, "created").Unique(o => o.Id, "id")),
        ("mixed directions", "mixed_directions", Keyset.For<Order>().Descending(o => o.Created, "created").Unique(o => o.Id, "id", SortDirection.Ascending)),
        ("few values first", "few_values", Keyset.For<Order>().Ascending(o => o.Status, "status").Unique(o => o.Id, "id")),
        ("few values first, three columns", "three_columns", Keyset.For<Order>().Ascending(o => o.Status, "status").Descending(o => o.Created, "created").Unique(o => o.Id, "id")),
        ("nulls first, ascending", "nullable", Keyset.For<Order>().Ascending(o => o.Shipped, NullOrder.First, "shipped").Unique(o => o.Id, "id")),
        ("nulls last, ascending", "nullable", Keyset.For<Order>().Ascending(o => o.Shipped, NullOrder.Last, "shipped").Unique(o => o.Id, "id")),
        ("nulls first, descending", "nullable", Keyset.For<Order>().Descending(o => o.Shipped, NullOrder.First, "shipped").Unique(o => o.Id, "id")),
        ("nulls last, descending", "nullable", Keyset.For<Order>().Descending(o => o.Shipped, NullOrder.Last, "shipped").Unique(o => o.Id, "id")),
    ];

    public const string Indexes =
        "CREATE INDEX same_direction ON orders (created, id); CREATE INDEX mixed_directions ON orders (created DESC, id); CREATE INDEX few_values ON orders (status, id); "
        + "CREATE INDEX three_columns ON orders (status, created DESC, id DESC); CREATE INDEX nullable ON orders (shipped, id);";

    /// <summary>The million in a PostgreSQL: a third not shipped, four at the same instant.</summary>
    public const string PostgreSql =
        "CREATE UNLOGGED TABLE orders (id int PRIMARY KEY, created timestamptz NOT NULL, status int NOT NULL, shipped timestamptz, note text); "
        + "INSERT INTO orders SELECT i, '2024-01-01T00:00:00Z'::timestamptz + (i::bigint * 7919 % 250000) * interval '1 minute', i % 5, "
        + "CASE WHEN i % 3 > 0 THEN '2024-06-01T00:00:00Z'::timestamptz + (i::bigint * 104729 % 300000) * interval '1 minute' END, 'a note on order ' || i FROM generate_series(1, 1000000) AS i; ";

    /// <summary>The same in SQLite, instants as Microsoft.Data.Sqlite writes them.</summary>
    public const string Sqlite =
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, created TEXT NOT NULL, status INTEGER NOT NULL, shipped TEXT, note TEXT); "
        + "INSERT INTO orders SELECT value, datetime('2024-01-01', (value * 7919 % 250000) || ' minutes'), value % 5, "
        + "CASE WHEN value % 3 > 0 THEN datetime('2024-06-01', (value * 104729 % 300000) || ' minutes') END, 'a note on order ' || value FROM numbers; ";

    public const string Numbers = "CREATE TEMPORARY VIEW numbers AS WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 1000000) SELECT value FROM n; ";
}
