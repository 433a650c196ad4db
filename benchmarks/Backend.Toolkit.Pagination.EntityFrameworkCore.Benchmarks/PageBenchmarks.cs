using Backend.Toolkit.Pagination;
using Backend.Toolkit.Pagination.EntityFrameworkCore;
using BenchmarkDotNet.Attributes;
using Microsoft.Data.Sqlite;
using Microsoft.EntityFrameworkCore;

/// <summary>
/// A page of 20 in the middle of 200 000 rows of SQLite in memory, with the question whether there is anything behind it. By hand: the same branches, written as LINQ for this one keyset and direction, and no cursor opened or
/// sealed; so what <c>ToPageAsync</c> costs more is the choice of the plan, the making of the expression, one cursor opened and two sealed.
/// </summary>
public class PageBenchmarks
{
    private const int Size = 20;

    private static readonly Keyset<Order> Newest = Keyset.For<Order>().Descending(o => o.CreatedAt).Unique(o => o.Id);

    private static readonly Func<ShopContext, DateTime, int, int, IAsyncEnumerable<Found>> CompiledByHand = EF.CompileAsyncQuery((ShopContext db, DateTime createdAt, int id, int limit) =>
        db.Orders.Where(o => o.CreatedAt == createdAt && o.Id < id).Concat(db.Orders.Where(o => o.CreatedAt < createdAt))
            .OrderByDescending(o => o.CreatedAt).ThenByDescending(o => o.Id).Take(limit)
            .Select(o => new Found(
                o,
                db.Orders.Where(other => other.CreatedAt == createdAt && other.Id >= id).OrderBy(other => other.CreatedAt).ThenBy(other => other.Id).Select(other => (int?)1).FirstOrDefault()
                ?? db.Orders.Where(other => other.CreatedAt > createdAt).OrderBy(other => other.CreatedAt).ThenBy(other => other.Id).Select(other => (int?)1).FirstOrDefault())));

    private static readonly CompiledPageQuery<ShopContext, Order, Order> Compiled = CompiledPageQuery.Create((ShopContext db) => db.Orders, Newest);

    private readonly SqliteConnection _connection = new("Data Source=:memory:");
    private readonly CursorPaginator _paginator;
    private ShopContext _context = null!;
    private PageRequest _request;
    private Order _anchor = null!;

    public PageBenchmarks()
    {
        var options = new CursorPaginatorOptions();
        options.Keys.Add(new CursorKey(1, new byte[32]));
        _paginator = new CursorPaginator(options);
    }

    [GlobalSetup]
    public void Setup()
    {
        _connection.Open();
        _context = new ShopContext(new DbContextOptionsBuilder<ShopContext>().UseSqlite(_connection).UseQueryTrackingBehavior(QueryTrackingBehavior.NoTracking).Options);
        _context.Database.EnsureCreated();
        _context.Database.ExecuteSqlRaw("""
            WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 200000)
            INSERT INTO Orders (Id, CreatedAt, Status, Customer, Note) SELECT v, datetime('2024-01-01', (v * 7919 % 50000) || ' minutes'), v % 5, 'customer ' || (v % 1000), 'a note on order ' || v FROM n;
            ANALYZE;
            """);
        _anchor = _context.Orders.OrderByDescending(o => o.CreatedAt).ThenByDescending(o => o.Id).Skip(90_000).First();
        _request = new PageRequest(_paginator.Seal(Newest, _anchor, PageDirection.Forward), Size);
    }

    [GlobalCleanup]
    public void Cleanup()
    {
        _context.Dispose();
        _connection.Dispose();
    }

    [BenchmarkCategory("query"), Benchmark(Baseline = true, Description = "LINQ by hand")]
    public async Task<int> ByHand()
    {
        DateTime createdAt = _anchor.CreatedAt;
        int id = _anchor.Id;
        ShopContext db = _context;
        List<Found> found = await db.Orders.Where(o => o.CreatedAt == createdAt && o.Id < id).Concat(db.Orders.Where(o => o.CreatedAt < createdAt))
            .OrderByDescending(o => o.CreatedAt).ThenByDescending(o => o.Id).Take(Size + 1)
            .Select(o => new Found(
                o,
                db.Orders.Where(other => other.CreatedAt == createdAt && other.Id >= id).OrderBy(other => other.CreatedAt).ThenBy(other => other.Id).Select(other => (int?)1).FirstOrDefault()
                ?? db.Orders.Where(other => other.CreatedAt > createdAt).OrderBy(other => other.CreatedAt).ThenBy(other => other.Id).Select(other => (int?)1).FirstOrDefault()))
            .ToListAsync();
        return Checked(found.Count - 1);
    }

    [BenchmarkCategory("query"), Benchmark(Description = "ToPageAsync")]
    public async Task<int> ToPage() => Checked((await _context.Orders.ToPageAsync(_paginator, Newest, _request)).Items.Count);

    [BenchmarkCategory("compiled"), Benchmark(Baseline = true, Description = "CompileAsyncQuery by hand")]
    public async Task<int> CompiledHand()
    {
        var found = new List<Found>();
        await foreach (Found row in CompiledByHand(_context, _anchor.CreatedAt, _anchor.Id, Size + 1))
        {
            found.Add(row);
        }

        return Checked(found.Count - 1);
    }

    [BenchmarkCategory("compiled"), Benchmark(Description = "CompiledPageQuery")]
    public async Task<int> CompiledPage() => Checked((await Compiled.ToPageAsync(_context, _paginator, _request)).Items.Count);

    [BenchmarkCategory("at that depth"), Benchmark(Baseline = true, Description = "CompiledPageQuery, page 4 500")]
    public Task<int> Deep() => CompiledPage();

    [BenchmarkCategory("at that depth"), Benchmark(Description = "OFFSET")]
    public async Task<int> Offset() => Checked((await _context.Orders.OrderByDescending(o => o.CreatedAt).ThenByDescending(o => o.Id).Skip(90_000).Take(Size).ToListAsync()).Count);

    private static int Checked(int count) => count == Size ? count : throw new InvalidOperationException($"The page has {count} rows.");
}

public sealed record Found(Order Order, int? Behind);

public sealed class Order
{
    public int Id { get; set; }

    public DateTime CreatedAt { get; set; }

    public int Status { get; set; }

    public string Customer { get; set; } = "";

    public string Note { get; set; } = "";
}

public sealed class ShopContext(DbContextOptions options) : DbContext(options)
{
    public DbSet<Order> Orders => Set<Order>();

    protected override void OnModelCreating(ModelBuilder modelBuilder) => modelBuilder.Entity<Order>().HasIndex(o => new { o.CreatedAt, o.Id });
}
