#:sdk Microsoft.NET.Sdk.Web
#:project ../src/Backend.Toolkit.Pagination/Backend.Toolkit.Pagination.csproj
#:package Microsoft.Data.Sqlite
#:property NoWarn=$(NoWarn);ASP0000

// Pagination: a keyset, pages by SQL, forward and back, a deleted anchor, refused cursors, a list in memory, and a client that reads all pages over HTTP.
using System.Security.Cryptography;
using System.Text.Json.Serialization;
using Backend.Toolkit.Pagination;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.DependencyInjection;

// 1. A keyset, pages by SQL, forward and back.
var services = new ServiceCollection();
services.AddCursorPagination(o => o.Keys.Add(new CursorKey(1, RandomNumberGenerator.GetBytes(32))));

await using ServiceProvider provider = services.BuildServiceProvider();
var paginator = provider.GetRequiredService<CursorPaginator>();
await using var connection = new SqliteConnection("Data Source=:memory:");
await connection.OpenAsync();
await using SqliteCommand command = connection.CreateCommand();
command.CommandText = """
    CREATE TABLE orders (id INTEGER PRIMARY KEY, created_at TEXT NOT NULL, customer TEXT NOT NULL);
    CREATE INDEX orders_by_age ON orders (created_at, id);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
    INSERT INTO orders SELECT i, datetime('2024-01-01', (i / 10) || ' minutes'), 'customer ' || (i % 7) FROM n;
    """;
await command.ExecuteNonQueryAsync();

// The caller's SELECT, without ORDER BY and LIMIT.
async Task<Page<Order>> ReadAsync(PageRequest request)
{
    const string sql = "SELECT id, created_at, customer FROM orders";
    KeysetRequest<Order> opened = paginator.Open(Order.Newest, request, scope: "all orders");
    KeysetQuery<Order> query = KeysetSql.Render(SqlDialect.Sqlite, Order.Newest, sql, opened);
    return await query.ToPageAsync(command, reader => new Order(reader.GetInt32(0), reader.GetDateTime(1), reader.GetString(2)));
}

Page<Order> first = await ReadAsync(new PageRequest(null, Size: 3));
Page<Order> second = await ReadAsync(new PageRequest(first.Next, Size: 3));
Page<Order> back = await ReadAsync(new PageRequest(second.Previous, Size: 3));
Page<Order> last = await ReadAsync(new PageRequest(null, Size: 3, PageDirection.Backward, TotalKind.Capped));
foreach (Page<Order> page in (Page<Order>[])[first, second, back, last])
{
    Console.WriteLine($"Orders {string.Join(' ', page.Items.Select(order => order.Id))}, previous: {page.Previous ?? "none"}, next: {page.Next ?? "none"}");
}

Console.WriteLine($"A cursor has {first.Next!.Length} characters; the last page counted {last.Total} orders");

// 2. The row that a cursor points at may go: the cursor still says where to go on.
await using SqliteCommand delete = connection.CreateCommand();
delete.CommandText = $"DELETE FROM orders WHERE id = {first.Items[^1].Id}";
await delete.ExecuteNonQueryAsync();

Page<Order> after = await ReadAsync(new PageRequest(first.Next, Size: 3));

Console.WriteLine($"Anchor deleted:     {Ids(after)}");

// 3. A cursor that was altered, or belongs to another query, is refused.
try
{
    paginator.Open(Order.Newest, new PageRequest(first.Next), scope: "orders of customer 7");
}
catch (InvalidCursorException exception)
{
    Console.WriteLine($"Another scope:      {exception.Reason}: {exception.Message}");
}

// 4. What is in memory: in any order, or sorted and then searched.
List<Order> orders = [.. second.Items, .. first.Items];
Page<Order> unsorted = orders.ToPage(paginator, Order.Newest, new PageRequest(first.Next, Size: 2), scope: "all orders");
orders.Sort(Order.Newest);
Page<Order> sorted = orders.ToPageOfSorted(paginator, Order.Newest, new PageRequest(unsorted.Next, Size: 2), scope: "all orders");

Console.WriteLine($"In memory:          {Ids(unsorted)}, then {Ids(sorted)}");

// 5. A client reads all pages over HTTP. The keys that seal cursors come from configuration; without any the application does not start (in Development a random one is taken, with a warning).
WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
builder.WebHost.UseUrls("http://127.0.0.1:0");
builder.Logging.ClearProviders();
builder.Services.ConfigureHttpJsonOptions(o => o.SerializerOptions.TypeInfoResolverChain.Insert(0, ShopJson.Default));
builder.Configuration.AddInMemoryCollection(new Dictionary<string, string?> { ["Cursors:Keys:0:Id"] = "1", ["Cursors:Keys:0:Secret"] = Convert.ToBase64String(RandomNumberGenerator.GetBytes(32)) });
builder.Services.AddCursorPagination(o => o.MaxSize = 50).AddOptions<CursorPaginatorOptions>().BindConfiguration("Cursors");
await using WebApplication app = builder.Build();
paginator = app.Services.GetRequiredService<CursorPaginator>();
app.MapGet("/orders", (string? cursor, int? size) => ReadAsync(new PageRequest(cursor, size ?? 0)));
await app.StartAsync();
using var client = new HttpClient { BaseAddress = new Uri(app.Urls.First()) };

var all = new PageReader<Order>(client, ShopJson.Default.Order);
int count = 0;
await foreach (Order order in all.ReadAsync(new Uri("/orders?size=50", UriKind.Relative)))
{
    count++;
}

Console.WriteLine($"Read over HTTP:     {count} orders");

static string Ids(Page<Order> page) => string.Join(' ', page.Items.Select(order => order.Id));

internal sealed record Order(int Id, DateTime CreatedAt, string Customer)
{
    public static Keyset<Order> Newest { get; } = Keyset.For<Order>()
        .Descending(o => o.CreatedAt, column: "created_at")
        .Unique(o => o.Id, column: "id");
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(Page<Order>))]
internal sealed partial class ShopJson : JsonSerializerContext;
