using BenchmarkDotNet.Attributes;

namespace Backend.Toolkit.Pagination.Benchmarks;

/// <summary>A page of 20 from the middle of 100 000 items in memory: a scan for the position, as LINQ does it, beside a pass over items in any order and a binary search in sorted ones.</summary>
public class InMemoryBenchmarks
{
    private static readonly Order[] Sorted = [.. Enumerable.Range(0, 100_000).Select(i => new Order(100_000 - i, new DateTime(2024, 1, 1).AddMinutes(100_000 - i), ""))];
    private static readonly Order Middle = Sorted[50_000];
    private static readonly PageRequest Request = new(Order.Paginator.Seal(Order.Newest, Middle, PageDirection.Forward), 20);

    [BenchmarkCategory("page of 20"), Benchmark(Baseline = true, Description = "SkipWhile, Take")]
    public List<Order> Linq() => [.. Sorted.SkipWhile(order => order.Created > Middle.Created || (order.Created == Middle.Created && order.Id >= Middle.Id)).Take(20)];

    [BenchmarkCategory("page of 20"), Benchmark(Description = "ToPage")]
    public Page<Order> Pass() => Sorted.ToPage(Order.Paginator, Order.Newest, Request);

    [BenchmarkCategory("page of 20"), Benchmark(Description = "ToPageOfSorted")]
    public Page<Order> Search() => Sorted.ToPageOfSorted(Order.Paginator, Order.Newest, Request);
}
