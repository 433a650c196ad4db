namespace Backend.Toolkit.Pagination.Tests;

/// <remarks>One after the other: whoever listens to the meter makes a refusal cost memory.</remarks>
[Collection("The meter")]
public sealed class AllocationTests
{
    private static readonly Row Some = new() { Id = 42, GuidId = Guid.NewGuid(), D = DateTime.UnixEpoch, ND = DateTime.UnixEpoch };

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Sealing_allocates_the_text_and_opening_nothing(bool encrypt)
    {
        Keyset<Row> keyset = Keyset.For<Row>().Descending(row => row.D, "d").Descending(row => row.ND, NullOrder.First, "nd").Unique(row => row.GuidId, "guid_id");
        CursorPaginator paginator = Paginators.New(o =>
        {
            o.Encrypt = encrypt;
            o.Expiry = TimeSpan.FromDays(1);
        });
        string cursor = paginator.Seal(keyset, Some, PageDirection.Forward, "tenant 7");
        long text = 22 + (2 * cursor.Length) + 7 & ~7;
        int size = 0;

        long sealing = Measure(() => paginator.Seal(keyset, Some, PageDirection.Forward, "tenant 7"));
        long opening = Measure(() => size += paginator.Open(keyset, new PageRequest(cursor), "tenant 7").Size);

        sealing.Should().Be(1000 * text);
        opening.Should().Be(0);
        size.Should().BePositive();
    }

    [Fact]
    public void A_plan_and_its_text_are_found_without_allocating()
    {
        Keyset<Row> keyset = Keyset.For<Row>().Descending(row => row.D, "d").Unique(row => row.Id, "id");
        CursorPaginator paginator = Paginators.New();
        var request = new PageRequest(paginator.Seal(keyset, Some, PageDirection.Forward));
        int length = 0;

        long allocated = Measure(() => length += KeysetSql.Render(SqlDialect.Sqlite, keyset, "SELECT 1", paginator.Open(keyset, request)).Sql.Length);

        allocated.Should().Be(0);
        length.Should().BePositive();
    }

    private static long Measure(Action action)
    {
        for (int i = 0; i < 1000; i++)
        {
            action();
        }

        // A collection that another test causes meanwhile counts as 24 bytes of this thread: what the action itself allocates is in every round.
        long least = long.MaxValue;
        for (int round = 0; round < 20; round++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            for (int i = 0; i < 1000; i++)
            {
                action();
            }

            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        return least;
    }
}
