using System.Collections;

namespace Backend.Toolkit.Pagination.Tests;

public sealed class InMemoryTests
{
    private static readonly CursorPaginator Paginator = Paginators.New();
    private static readonly Keyset<Row> Newest = Keyset.For<Row>().Descending(row => row.I, "i").Unique(row => row.Id, "id");

    [Fact]
    public void A_sorted_list_is_searched_not_scanned()
    {
        var list = new CountingList([.. Enumerable.Range(0, 1_000_000).Select(i => new Row { I = 1_000_000 - i, Id = 1_000_000 - i })]);
        string cursor = Paginator.Seal(Newest, list[700_000], PageDirection.Forward);
        list.Reads = 0;

        Page<Row> page = list.ToPageOfSorted(Paginator, Newest, new PageRequest(cursor, 20));

        page.Items.Select(row => row.Id).Should().Equal(Enumerable.Range(0, 20).Select(i => 299_999 - i));
        list.Reads.Should().BeLessThanOrEqualTo(20 + 20, "twenty steps halve a million, and twenty rows are read");
    }

    [Fact]
    public void A_query_of_a_database_is_refused_and_one_of_a_list_is_not()
    {
        IQueryable<Row> ofList = new[] { new Row { Id = 1 } }.AsQueryable();
        var ofDatabase = new Query(ofList);

        Action page = () => ofDatabase.ToPage(Paginator, Newest, new PageRequest());

        page.Should().Throw<NotSupportedException>().WithMessage("*ToPageAsync*");
        ofList.ToPage(Paginator, Newest, new PageRequest()).Items.Should().HaveCount(1);
    }

    [Fact]
    public void A_page_is_taken_in_one_pass()
    {
        int passes = 0;
        IEnumerable<Row> Source()
        {
            passes++;
            for (int i = 0; i < 1000; i++)
            {
                yield return new Row { I = i * 7919 % 1000, Id = i };
            }
        }

        Page<Row> page = Source().ToPage(Paginator, Newest, new PageRequest(null, 3, Total: TotalKind.Exact));

        page.Items.Select(row => row.I).Should().Equal(999, 998, 997);
        page.Total.Should().Be(new PageTotal(1000, IsCapped: false));
        passes.Should().Be(1);
    }

    [Fact]
    public void A_page_of_projections_finds_its_keys_where_it_is_told()
    {
        KeysetRequest<Row> opened = Paginator.Open(Newest, new PageRequest(Paginator.Seal(Newest, new Row { I = 9, Id = 9 }, PageDirection.Backward), 2));
        (string Name, int I, int Id)[] read = [("ten", 10, 10), ("eleven", 11, 11), ("twelve", 12, 12)];

        Page<string> page = opened.ToPage(read, behind: true, row => row.Name, (row, column) => column == 0 ? row.I : row.Id);

        page.Items.Should().Equal("eleven", "ten");
        page.Previous.Should().Be(Paginator.Seal(Newest, new Row { I = 11, Id = 11 }, PageDirection.Backward));
        page.Next.Should().Be(Paginator.Seal(Newest, new Row { I = 10, Id = 10 }, PageDirection.Forward));
    }

    private sealed class CountingList(Row[] rows) : IReadOnlyList<Row>
    {
        public int Reads { get; set; }

        public int Count => rows.Length;

        public Row this[int index]
        {
            get
            {
                Reads++;
                return rows[index];
            }
        }

        public IEnumerator<Row> GetEnumerator() => throw new InvalidOperationException("a scan");

        IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
    }

    private sealed class Query(IQueryable<Row> inner) : IQueryable<Row>
    {
        public Type ElementType => inner.ElementType;

        public System.Linq.Expressions.Expression Expression => inner.Expression;

        public IQueryProvider Provider => inner.Provider;

        public IEnumerator<Row> GetEnumerator() => inner.GetEnumerator();

        IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
    }
}
