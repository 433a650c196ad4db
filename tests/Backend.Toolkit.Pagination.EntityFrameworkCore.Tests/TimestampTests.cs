using Backend.Toolkit.Pagination.Tests;
using CsCheck;
using Microsoft.EntityFrameworkCore;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore.Tests;

/// <summary>Values with more digits than their column keeps, as an entity has them straight after it was saved.</summary>
public sealed class TimestampTests(PostgreSqlServer postgres)
{
    private static readonly CursorPaginator Paginator = Paginators.New();

    [Fact]
    public async Task Rows_within_a_microsecond_page_from_the_entities_that_were_just_saved()
    {
        Keyset<ShopOrder> keyset = Keyset.For<ShopOrder>().Ascending(o => o.CreatedAt).Unique(o => o.Id);
        foreach (Provider provider in Enum.GetValues<Provider>())
        {
            await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
            await using ShopContext context = database.Context();
            await context.Orders.ExecuteDeleteAsync();
            ShopOrder[] saved = [.. Enumerable.Range(100, 40).Select(i => new ShopOrder { Id = i, Tenant = ShopDatabase.Tenant, CreatedAt = ShopDatabase.Start.AddTicks(i * 7 % 31) })];
            context.AddRange(saved);
            await context.SaveChangesAsync();

            await FromEachAsync(keyset, saved, o => o.Id, (request, token) => context.Orders.AsNoTracking().ToPageAsync(Paginator, keyset, request, cancellationToken: token), context.Orders.AsNoTracking().OrderBy(o => o.CreatedAt).ThenBy(o => o.Id).Select(o => o.Id));
        }
    }

    [Fact]
    public async Task A_column_of_milliseconds_and_one_of_cents_page_from_the_entities_that_were_just_saved()
    {
        Keyset<Odd> keyset = Keyset.For<Odd>().Ascending(o => o.At).Descending(o => o.Price).Unique(o => o.Id);
        await using ShopDatabase database = await ShopDatabase.OpenAsync(Provider.PostgreSql, postgres);
        await Gen.Select(Gen.Long[-20_000_000_000_000_000, 20_000_000_000_000_000], Gen.Int[0, 30_000].Array[30], Gen.Int[-14, 14]).SampleAsync(async (offset, ticks, hours) =>
        {
            await using ShopContext context = database.Context();
            await context.Odds.ExecuteDeleteAsync();
            // Around the year 2000, from where PostgreSQL counts, and rounds away.
            Odd[] saved = [.. ticks.Select((tick, i) => new Odd { Id = i + 1, At = new DateTimeOffset(2000, 1, 1, 0, 0, 0, TimeSpan.Zero).AddTicks(i % 2 == 0 ? offset + tick : tick - 15_000), Price = (tick % 5 / 200m) - 0.005m })];
            context.AddRange(saved);
            await context.SaveChangesAsync();
            foreach (Odd odd in saved)
            {
                odd.At = odd.At.ToOffset(TimeSpan.FromHours(hours));
            }

            await FromEachAsync(keyset, saved, o => o.Id, (request, token) => context.Odds.AsNoTracking().ToPageAsync(Paginator, keyset, request, cancellationToken: token), context.Odds.AsNoTracking().OrderBy(o => o.At).ThenByDescending(o => o.Price).ThenByDescending(o => o.Id).Select(o => o.Id));
        }, iter: 10, threads: 1);
    }

    /// <summary>From the cursor of each entity on come exactly the rows that the database has after it, and before it those before.</summary>
    private static async Task FromEachAsync<T>(Keyset<T> keyset, T[] saved, Func<T, int> id, Func<PageRequest, CancellationToken, Task<Page<T>>> read, IQueryable<int> ordered)
    {
        List<int> expected = await ordered.ToListAsync();
        foreach (T row in saved)
        {
            int at = expected.IndexOf(id(row));

            Page<T> after = await read(new PageRequest(Paginator.Seal(keyset, row, PageDirection.Forward), 1000), default);
            Page<T> before = await read(new PageRequest(Paginator.Seal(keyset, row, PageDirection.Backward), 1000), default);

            after.Items.Select(id).Should().Equal(expected.Skip(at + 1).Take(100));
            before.Items.Select(id).Should().Equal(expected.Take(at).TakeLast(100));
        }
    }
}
