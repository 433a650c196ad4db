#:property PublishAot=false
#:project ../src/Backend.Toolkit.Pagination.EntityFrameworkCore/Backend.Toolkit.Pagination.EntityFrameworkCore.csproj
#:package Microsoft.EntityFrameworkCore.Sqlite

// Pagination of Entity Framework queries: pages with their lines, a projection, totals, a compiled query, and how a test finds the missing index.
using System.Security.Cryptography;
using Backend.Toolkit.Pagination;
using Backend.Toolkit.Pagination.EntityFrameworkCore;
using Microsoft.Data.Sqlite;
using Microsoft.EntityFrameworkCore;

await using var connection = new SqliteConnection("Data Source=:memory:");
await connection.OpenAsync();
await using var db = new ShopContext(new DbContextOptionsBuilder<ShopContext>().UseSqlite(connection).Options);
await db.Database.EnsureCreatedAsync();
db.AddRange(Enumerable.Range(1, 1000).Select(i => new Order { Id = i, CreatedAt = new DateTime(2024, 1, 1).AddMinutes(i / 10), Tenant = i % 3, Lines = [new Line { Product = $"product {i}" }] }));
await db.SaveChangesAsync();
db.ChangeTracker.Clear();

// An application gets it from services.AddCursorPagination(…).
var options = new CursorPaginatorOptions();
options.Keys.Add(new CursorKey(1, RandomNumberGenerator.GetBytes(32)));
var paginator = new CursorPaginator(options);

// Pages of a query, with what it includes: each is one statement.
int tenant = 2;
Task<Page<Order>> ReadAsync(PageRequest request)
{
    IQueryable<Order> query = db.Orders.Where(o => o.Tenant == tenant).Include(o => o.Lines).AsNoTracking();
    return query.ToPageAsync(paginator, Order.Newest, request, scope: $"tenant {tenant}");
}

Page<Order> first = await ReadAsync(new PageRequest(null, Size: 3, Total: TotalKind.Exact));
Page<Order> second = await ReadAsync(new PageRequest(first.Next, Size: 3));
Page<Order> back = await ReadAsync(new PageRequest(second.Previous, Size: 3));
Page<Order> last = await ReadAsync(new PageRequest(null, Size: 3, PageDirection.Backward));
foreach (Page<Order> page in (Page<Order>[])[first, second, back, last])
{
    Console.WriteLine($"Orders {Ids(page.Items)}, with {page.Items[0].Lines[0].Product}, previous: {page.Previous ?? "none"}, next: {page.Next ?? "none"}");
}

Console.WriteLine($"First page:    of {first.Total} orders");

// 1. A projection after the seek need not have the keys.
Page<OrderSummary> summaries = await db.Orders.Where(o => o.Tenant == tenant)
    .ToPageAsync(paginator, Order.Newest, new PageRequest(first.Next, Size: 3), o => new OrderSummary("Order " + o.Id, o.Lines.Count), scope: $"tenant {tenant}");

Console.WriteLine($"Summaries:     {string.Join(", ", summaries.Items)}");

// 2. The same query again and again: compiled once for each shape of page.
Page<Order> compiled = await ShopContext.OrdersOfTenant.ToPageAsync(db, tenant, paginator, new PageRequest(first.Next, Size: 3), scope: $"tenant {tenant}");

Console.WriteLine($"Compiled:      {Ids(compiled.Items)}");

// 3. For a test: is it a seek, and which index is missing?
PageExplanation good = await db.Orders.ExplainPageAsync(paginator, Order.Newest, new PageRequest(first.Next), scope: $"tenant {tenant}");
PageExplanation bad = await db.Orders.ExplainPageAsync(paginator, Order.ByTenant, default);

Console.WriteLine($"Newest:        {(good.IsSeek ? "a seek" : good)}");
Console.WriteLine($"By tenant:     {bad.Problems[0]} Missing index: {bad.MissingIndex}");

// 4. What the database would order wrongly is refused, with advice.
try
{
    await db.Orders.ToPageAsync(paginator, Order.Dearest, default);
}
catch (PagedQueryException exception)
{
    Console.WriteLine($"Refused:       {exception.Message}");
}

bool asPromised = back.Next == first.Next && compiled.Next == second.Next && good.IsSeek && !bad.IsSeek && last.Next is null && summaries.Items.Count == 3;
Console.WriteLine(asPromised ? "Each page was a seek, and led back." : "A page is wrong.");
return asPromised ? 0 : 1;

static string Ids(IEnumerable<Order> orders) => string.Join(", ", orders.Select(order => order.Id));

internal sealed record OrderSummary(string Name, int Lines);

internal sealed class Order
{
    // The order of the rows, declared once.
    public static readonly Keyset<Order> Newest = Keyset.For<Order>().Descending(o => o.CreatedAt).Unique(o => o.Id);

    public static readonly Keyset<Order> ByTenant = Keyset.For<Order>().Ascending(o => o.Tenant).Unique(o => o.Id);

    public static readonly Keyset<Order> Dearest = Keyset.For<Order>().Descending(o => o.Total).Unique(o => o.Id);

    public int Id { get; set; }

    public DateTime CreatedAt { get; set; }

    public int Tenant { get; set; }

    public decimal Total { get; set; }

    public List<Line> Lines { get; set; } = [];
}

internal sealed class Line
{
    public int Id { get; set; }

    public string Product { get; set; } = "";
}

internal sealed class ShopContext(DbContextOptions options) : DbContext(options)
{
    public DbSet<Order> Orders => Set<Order>();

    public static readonly CompiledPageQuery<ShopContext, int, Order, Order> OrdersOfTenant =
        CompiledPageQuery.Create((ShopContext db, int tenant) => db.Orders.Where(o => o.Tenant == tenant).AsNoTracking(), Order.Newest);

    protected override void OnModelCreating(ModelBuilder modelBuilder) => modelBuilder.Entity<Order>().HasIndex(o => new { o.CreatedAt, o.Id });
}
