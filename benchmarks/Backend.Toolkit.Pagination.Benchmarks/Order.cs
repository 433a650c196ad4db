namespace Backend.Toolkit.Pagination.Benchmarks;

public sealed record Order(int Id, DateTime Created, string Note, int Status = 0)
{
    public const string Select = "SELECT id, created, note, status FROM orders";

    public const string Sqlite =
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, created TEXT NOT NULL, note TEXT NOT NULL, status INTEGER NOT NULL); "
        + "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < @rows) "
        + "INSERT INTO orders SELECT i, datetime('2024-01-01', (i * 7919 % 250000) || ' minutes'), 'a note on order ' || i, i % 5 FROM n; CREATE INDEX by_status ON orders (status, id DESC); CREATE INDEX by_created ON orders (created, id); CREATE INDEX mixed ON orders (created DESC, id); ANALYZE;";

    public static Keyset<Order> Newest { get; } = Keyset.For<Order>().Descending(order => order.Created, "created").Unique(order => order.Id, "id");

    public static Keyset<Order> Mixed { get; } = Keyset.For<Order>().Descending(order => order.Created, "created").Unique(order => order.Id, "id", SortDirection.Ascending);

    /// <summary>Five values in the first column.</summary>
    public static Keyset<Order> ByStatus { get; } = Keyset.For<Order>().Ascending(order => order.Status, "status").Unique(order => order.Id, "id", SortDirection.Descending);

    public static CursorPaginator Paginator { get; } = New();

    private static CursorPaginator New()
    {
        var options = new CursorPaginatorOptions();
        options.Keys.Add(new CursorKey(1, [.. Enumerable.Range(1, 32).Select(i => (byte)i)]));
        return new CursorPaginator(options);
    }
}
