using System.Security.Cryptography;
using System.Text;

namespace Backend.Toolkit.Pagination.Tests;

public sealed class KeysetTests
{
    [Fact]
    public void A_keyset_tells_how_it_was_declared()
    {
        Keyset<Row> keyset = Keyset.For<Row>()
            .Descending(row => row.ND, NullOrder.Last, "shipped_at", type: "timestamptz(3)")
            .Ascending(row => row.NS, "name", NullOrder.First)
            .Descending(row => row.E)
            .Unique(row => row.Id);

        keyset.Columns.Select(column => (column.Ordinal, column.Name, column.KeyType, column.Direction, column.Nulls, column.IsNullable, column.IsUnique, column.DatabaseType)).Should().Equal(
            (0, "shipped_at", typeof(DateTime?), SortDirection.Descending, NullOrder.Last, true, false, "timestamptz(3)"),
            (1, "name", typeof(string), SortDirection.Ascending, NullOrder.First, true, false, null),
            (2, "E", typeof(Status), SortDirection.Descending, null, false, false, null),
            (3, "Id", typeof(int), SortDirection.Descending, null, false, true, null));
        keyset.Columns[0].KeyOf(new Row()).Should().BeNull();
        keyset.Columns[2].KeyOf(new Row { E = Status.Paid }).Should().Be(Status.Paid);
    }

    [Fact]
    public void The_unique_column_goes_the_way_of_the_one_before_it_unless_told()
    {
        SortDirection alone = Keyset.For<Row>().Unique(row => row.Id).Columns[^1].Direction;
        SortDirection after = Keyset.For<Row>().Descending(row => row.I).Unique(row => row.Id).Columns[^1].Direction;
        SortDirection told = Keyset.For<Row>().Descending(row => row.I).Unique(row => row.Id, direction: SortDirection.Ascending).Columns[^1].Direction;

        (alone, after, told).Should().Be((SortDirection.Ascending, SortDirection.Descending, SortDirection.Ascending));
    }

    [Fact]
    public void A_nullable_key_must_say_where_nulls_stand()
    {
        Action ascending = () => Keyset.For<Row>().Ascending(row => row.ND);

        ascending.Should().Throw<ArgumentException>().WithMessage("row.ND may be null. Say nulls: NullOrder.First or NullOrder.Last*");
    }

    [Fact]
    public void What_has_no_common_order_or_no_name_or_comes_twice_is_refused()
    {
        Action noOrder = () => Keyset.For<Row>().Ascending(row => new Uri(row.S), "uri");
        Action noName = () => Keyset.For<Row>().Ascending(row => row.S.Length + 1);
        Action twice = () => Keyset.For<Row>().Ascending(row => row.I, "id").Unique(row => row.Id, "id");
        Action noDirection = () => Keyset.For<Row>().Unique(row => row.Id, direction: (SortDirection)7);
        Action tooMany = () => Enumerable.Range(0, 17).Aggregate(Keyset.For<Row>(), (prefix, i) => prefix.Ascending(row => row.I, $"c{i}"));

        noOrder.Should().Throw<ArgumentException>().WithMessage("*System.Uri*no order that all databases share*");
        noName.Should().Throw<ArgumentException>().WithMessage("*no member with a name*");
        twice.Should().Throw<ArgumentException>().WithMessage("Column id is in the keyset twice*");
        noDirection.Should().Throw<ArgumentOutOfRangeException>();
        tooMany.Should().Throw<InvalidOperationException>().WithMessage("*at most 16 columns*");
    }

    [Fact]
    public void A_row_without_a_value_where_all_have_one_is_an_error_that_says_what_to_do()
    {
        Keyset<Row> keyset = Keyset.For<Row>().Ascending(row => row.NS, "name").Unique(row => row.Id, "id");

        Action seal = () => Paginators.New().Seal(keyset, new Row(), PageDirection.Forward);

        seal.Should().Throw<InvalidOperationException>().WithMessage("*column name*nulls: NullOrder.First or NullOrder.Last*");
    }

    [Fact]
    public void A_row_of_a_generic_type_does_not_bind_cursors_to_the_version_of_an_assembly()
    {
        Keyset<KeyValuePair<Row, int>> keyset = Keyset.For<KeyValuePair<Row, int>>().Unique(pair => pair.Value, "id");
        const string shape = "System.Collections.Generic.KeyValuePair`2[Backend.Toolkit.Pagination.Tests.Row,System.Int32]\nid\ni32 Ascending ";

        keyset.ShapeHash.Should().Equal(SHA256.HashData(Encoding.UTF8.GetBytes(shape)).Take(16));
    }

    [Fact]
    public void A_keyset_compares_rows()
    {
        Keyset<Row> keyset = Keyset.For<Row>().Descending(row => row.NF, NullOrder.Last, "nf").Unique(row => row.Id, "id", SortDirection.Ascending);
        Row[] rows = [new() { Id = 1, NF = 1 }, new() { Id = 2 }, new() { Id = 3, NF = double.NaN }, new() { Id = 4, NF = 1 }, new() { Id = 5, NF = -0.0 }, new() { Id = 6, NF = 0.0 }];

        Array.Sort(rows, keyset);

        rows.Select(row => row.Id).Should().Equal(3, 1, 4, 5, 6, 2);
    }
}
