using BenchmarkDotNet.Attributes;
using Microsoft.Data.Sqlite;

namespace Backend.Toolkit.Pagination.Benchmarks;

/// <summary>A page of 20 out of 100 000 rows in SQLite: beside a prepared reader of the same SQL, which also opens one cursor and seals two.</summary>
public class RawPathBenchmarks
{
    private readonly SqliteConnection _connection = new("Data Source=:memory:");
    private SqliteCommand _ours = null!;
    private SqliteCommand _theirs = null!;
    private SqliteParameter _created = null!;
    private SqliteParameter _id = null!;
    private PageRequest _request;

    [GlobalSetup]
    public async Task SetUp()
    {
        await _connection.OpenAsync();
        await using SqliteCommand fill = _connection.CreateCommand();
        fill.CommandText = Order.Sqlite;
        fill.Parameters.AddWithValue("rows", 100_000);
        await fill.ExecuteNonQueryAsync();

        _request = new PageRequest(Order.Paginator.Seal(Order.Newest, new Order(500, new DateTime(2024, 3, 1), ""), PageDirection.Forward));
        KeysetQuery<Order> query = KeysetSql.Render(SqlDialect.Sqlite, Order.Newest, Order.Select, Order.Paginator.Open(Order.Newest, _request));
        _ours = _connection.CreateCommand();
        query.Bind(_ours);
        await _ours.PrepareAsync();

        _theirs = _connection.CreateCommand();
        _theirs.CommandText = query.Sql;
        _created = _theirs.Parameters.Add("@keyset0", SqliteType.Text);
        _id = _theirs.Parameters.Add("@keyset1", SqliteType.Integer);
        (_created.Value, _id.Value) = (new DateTime(2024, 3, 1), 500);
        await _theirs.PrepareAsync();
    }

    [BenchmarkCategory("page of 20"), Benchmark(Baseline = true, Description = "prepared reader, one cursor opened, two sealed")]
    public (List<Order> Items, string? Next, string? Previous) Reader()
    {
        KeysetRequest<Order> opened = Order.Paginator.Open(Order.Newest, _request);
        _created.Value = opened.PositionKey<DateTime>(0);
        _id.Value = opened.PositionKey<int>(1);
        var items = new List<Order>(20);
        bool behind = false;
        bool more = false;
        using (SqliteDataReader reader = _theirs.ExecuteReader())
        {
            while (reader.Read())
            {
                if (reader.GetInt32(4) != 0)
                {
                    behind = true;
                }
                else if (items.Count == 20)
                {
                    more = true;
                }
                else
                {
                    items.Add(new Order(reader.GetInt32(0), reader.GetDateTime(1), reader.GetString(2), reader.GetInt32(3)));
                }
            }
        }

        return (items, more ? Order.Paginator.Seal(Order.Newest, items[^1], PageDirection.Forward) : null, behind ? Order.Paginator.Seal(Order.Newest, items[0], PageDirection.Backward) : null);
    }

    [BenchmarkCategory("page of 20"), Benchmark(Description = "Open, Render, ToPageAsync")]
    public async Task<Page<Order>> Toolkit() =>
        await KeysetSql.Render(SqlDialect.Sqlite, Order.Newest, Order.Select, Order.Paginator.Open(Order.Newest, _request))
            .ToPageAsync(_ours, static reader => new Order(reader.GetInt32(0), reader.GetDateTime(1), reader.GetString(2), reader.GetInt32(3)));
}
