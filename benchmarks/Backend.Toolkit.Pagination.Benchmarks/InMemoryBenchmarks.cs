using BenchmarkDotNet.Attributes;

namespace Backend.Toolkit.Pagination.Benchmarks;

/// <summary>A page of 20 from the middle of 100 000 items in memory, beside LINQ, which neither opens nor seals a cursor.</summary>
public class InMemoryBenchmarks
{
    private static readonly Order[] Sorted = [.. Enumerable.Range(0, 100_000).Select(i => new Order(100_000 - i, new DateTime(2024, 1, 1).AddMinutes(100_000 - i), ""))];
    private static readonly Order[] Shuffled = [.. Enumerable.Range(0, 100_000).Select(i => Sorted[i * 7919 % 100_000])];
    private static readonly Order Middle = Sorted[50_000];
    private static readonly PageRequest Request = new(Order.Paginator.Seal(Order.Newest, Middle, PageDirection.Forward), 20);

    [BenchmarkCategory("sorted"), Benchmark(Baseline = true, Description = "SkipWhile, Take")]
    public List<Order> Scan() => [.. Sorted.SkipWhile(IsNotAfter).Take(20)];

    [BenchmarkCategory("sorted"), Benchmark(Description = "ToPageOfSorted")]
    public Page<Order> Search() => Sorted.ToPageOfSorted(Order.Paginator, Order.Newest, Request);

    [BenchmarkCategory("any order"), Benchmark(Baseline = true, Description = "OrderBy, SkipWhile, Take")]
    public List<Order> Sort() => [.. Shuffled.OrderByDescending(order => order.Created).ThenByDescending(order => order.Id).SkipWhile(IsNotAfter).Take(20)];

    [BenchmarkCategory("any order"), Benchmark(Description = "ToPage")]
    public Page<Order> Pass() => Shuffled.ToPage(Order.Paginator, Order.Newest, Request);

    private static bool IsNotAfter(Order order) => order.Created > Middle.Created || (order.Created == Middle.Created && order.Id >= Middle.Id);
}
