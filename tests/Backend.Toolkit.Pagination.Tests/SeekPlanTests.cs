namespace Backend.Toolkit.Pagination.Tests;

/// <summary>The plan in words: what each branch asks, for each dialect.</summary>
public sealed class SeekPlanTests
{
    private static readonly CursorPaginator Paginator = Paginators.New();

    [Fact]
    public void PostgreSQL_compares_one_row_value_where_all_columns_go_one_way()
    {
        Keyset<Row> keyset = Keyset.For<Row>().Descending(row => row.D, "d").Descending(row => row.I, "i").Unique(row => row.Id, "id");

        Describe(keyset, new Row(), PageDirection.Forward, SqlDialect.PostgreSql).Should().Equal("page: 0..2 Less", "behind: 0..2 GreaterOrEqual");
        Describe(keyset, new Row(), PageDirection.Backward, SqlDialect.PostgreSql).Should().Equal("page: 0..2 Greater", "behind: 0..2 LessOrEqual");
    }

    [Fact]
    public void SQLite_never_compares_row_values()
    {
        Keyset<Row> keyset = Keyset.For<Row>().Descending(row => row.D, "d").Unique(row => row.Id, "id");

        Describe(keyset, new Row(), PageDirection.Forward, SqlDialect.Sqlite).Should().Equal(
            "page: 0 Equal, 1 Less", "page: 0 Less", "behind: 0 Equal, 1 GreaterOrEqual", "behind: 0 Greater");
    }

    [Fact]
    public void Mixed_directions_are_branches_of_the_runs_that_go_one_way()
    {
        Keyset<Row> keyset = Keyset.For<Row>().Ascending(row => row.E, "e").Descending(row => row.D, "d").Unique(row => row.Id, "id");

        Describe(keyset, new Row(), PageDirection.Forward, SqlDialect.PostgreSql).Should().Equal(
            "page: 0 Equal, 1..2 Less", "page: 0 Greater", "behind: 0 Equal, 1..2 GreaterOrEqual", "behind: 0 Less");
        Describe(keyset, new Row(), PageDirection.Forward, SqlDialect.PostgreSql, rowValues: false).Should().Equal(
            "page: 0 Equal, 1 Equal, 2 Less", "page: 0 Equal, 1 Less", "page: 0 Greater",
            "behind: 0 Equal, 1 Equal, 2 GreaterOrEqual", "behind: 0 Equal, 1 Greater", "behind: 0 Less");
    }

    [Fact]
    public void Nulls_are_a_branch_of_their_own()
    {
        Keyset<Row> keyset = Keyset.For<Row>().Ascending(row => row.ND, NullOrder.Last, "nd").Unique(row => row.Id, "id");

        Describe(keyset, new Row { ND = DateTime.UnixEpoch }, PageDirection.Forward, SqlDialect.PostgreSql).Should().Equal(
            "page: 0 Equal, 1 Greater", "page: 0 Greater", "page: 0 IsNull", "behind: 0 Equal, 1 LessOrEqual", "behind: 0 Less");
        Describe(keyset, new Row(), PageDirection.Forward, SqlDialect.PostgreSql).Should().Equal(
            "page: 0 IsNull, 1 Greater", "behind: 0 IsNull, 1 LessOrEqual", "behind: 0 IsNotNull");
    }

    [Theory]
    [InlineData(SqlDialect.PostgreSql, SortDirection.Ascending, NullOrder.Last, false)]
    [InlineData(SqlDialect.PostgreSql, SortDirection.Ascending, NullOrder.First, true)]
    [InlineData(SqlDialect.PostgreSql, SortDirection.Descending, NullOrder.First, false)]
    [InlineData(SqlDialect.PostgreSql, SortDirection.Descending, NullOrder.Last, true)]
    [InlineData(SqlDialect.Sqlite, SortDirection.Ascending, NullOrder.First, false)]
    [InlineData(SqlDialect.Sqlite, SortDirection.Ascending, NullOrder.Last, true)]
    [InlineData(SqlDialect.Sqlite, SortDirection.Descending, NullOrder.Last, false)]
    [InlineData(SqlDialect.Sqlite, SortDirection.Descending, NullOrder.First, true)]
    public void A_null_order_that_the_index_lacks_splits_the_first_page_too(SqlDialect dialect, SortDirection direction, NullOrder nulls, bool splits)
    {
        KeysetPrefix<Row> prefix = direction == SortDirection.Ascending ? Keyset.For<Row>().Ascending(row => row.ND, nulls, "nd") : Keyset.For<Row>().Descending(row => row.ND, nulls, "nd");
        Keyset<Row> keyset = prefix.Unique(row => row.Id, "id");

        SeekPlan first = Paginator.Open(keyset, new PageRequest()).Plan(dialect);
        SeekPlan last = Paginator.Open(keyset, new PageRequest(Direction: PageDirection.Backward)).Plan(dialect);

        first.Page.Should().HaveCount(splits ? 2 : 1);
        last.Page.Should().HaveCount(splits ? 2 : 1);
        first.Behind.Should().BeEmpty();
    }

    [Fact]
    public void A_plan_is_made_once()
    {
        Keyset<Row> keyset = Keyset.For<Row>().Ascending(row => row.ND, NullOrder.Last, "nd").Unique(row => row.Id, "id");
        SeekPlan Plan(Row row) => Paginator.Open(keyset, new PageRequest(Paginator.Seal(keyset, row, PageDirection.Forward))).Plan(SqlDialect.PostgreSql);

        SeekPlan one = Plan(new Row { Id = 1, ND = DateTime.UnixEpoch });
        SeekPlan two = Plan(new Row { Id = 2, ND = DateTime.MaxValue });
        SeekPlan missing = Plan(new Row { Id = 3 });

        two.Should().BeSameAs(one);
        missing.Should().NotBeSameAs(one);
    }

    private static IEnumerable<string> Describe(Keyset<Row> keyset, Row row, PageDirection direction, SqlDialect dialect, bool rowValues = true)
    {
        SeekPlan plan = Paginator.Open(keyset, new PageRequest(Paginator.Seal(keyset, row, direction))).Plan(dialect, rowValues);
        return plan.Page.Select(branch => "page: " + Describe(branch)).Concat(plan.Behind.Select(branch => "behind: " + Describe(branch)));
    }

    private static string Describe(SeekBranch branch) =>
        string.Join(", ", branch.Terms.Select(term => $"{term.Column}{(term.Count > 1 ? $"..{term.Column + term.Count - 1}" : "")} {term.Operator}"));

    [Fact]
    public void On_PostgreSQL_every_branch_asks_for_the_null_order_that_the_index_of_a_further_column_has()
    {
        CursorPaginator paginator = Paginators.New();
        Keyset<Row> keyset = Keyset.For<Row>().Ascending(row => row.I, "i").Ascending(row => row.NI, NullOrder.First, "ni").Unique(row => row.Id, "id");

        SeekPlan ofValue = paginator.Open(keyset, new PageRequest(paginator.Seal(keyset, new Row { NI = 5 }, PageDirection.Forward))).Plan(SqlDialect.PostgreSql);
        SeekPlan ofNull = paginator.Open(keyset, new PageRequest(paginator.Seal(keyset, new Row(), PageDirection.Forward))).Plan(SqlDialect.PostgreSql);

        ofValue.Page.Concat(ofNull.Page).Should().OnlyContain(branch => branch.Order[1].Nulls == NullOrder.First);
        ofValue.Behind.Concat(ofNull.Behind).Should().OnlyContain(branch => branch.Order[1].Nulls == NullOrder.Last);
    }
}
