namespace Backend.Toolkit.Pagination;

/// <summary>
/// How a page is found: disjoint branches, each of which an index answers by one descent. What follows a position (a, b, c) in reading order is what shares (a, b) and follows in c; then what
/// shares a and follows in b; then what follows in a. Columns that a database compares as one row value count as one. Nulls that do not stand where the index has them are a branch of
/// their own. The same for one row <see cref="Behind"/> the position tells whether there is a page on that side.
/// </summary>
public sealed class SeekPlan
{
    private SeekPlan(SeekBranch[] page, SeekBranch[] behind, SeekOrder[] order, SeekOrder[] orderBehind)
    {
        Page = Array.AsReadOnly(page);
        Behind = Array.AsReadOnly(behind);
        Order = Array.AsReadOnly(order);
        OrderBehind = Array.AsReadOnly(orderBehind);
    }

    /// <summary>The branches of the page, in reading order: all rows of one come before those of the next.</summary>
    public IReadOnlyList<SeekBranch> Page { get; }

    /// <summary>The branches on the other side of the position, nearest first: is there a row in any? Empty when there is no position.</summary>
    public IReadOnlyList<SeekBranch> Behind { get; }

    /// <summary>The reading order over all branches of the page.</summary>
    public IReadOnlyList<SeekOrder> Order { get; }

    /// <summary>The order over all branches behind the position, away from it.</summary>
    public IReadOnlyList<SeekOrder> OrderBehind { get; }

    internal static SeekPlan Make((SortDirection Direction, NullOrder? Nulls)[] columns, SqlDialect dialect, bool rowValues, PageDirection direction, bool hasPosition, bool inclusive, int nullMask)
    {
        var page = new Side(columns, dialect, rowValues, direction);
        var behind = new Side(columns, dialect, rowValues, direction == PageDirection.Forward ? PageDirection.Backward : PageDirection.Forward);
        return new SeekPlan(
            hasPosition ? page.From(nullMask, inclusive) : page.FromTheStart(),
            hasPosition ? behind.From(nullMask, !inclusive) : [],
            page.Order(isFree: static _ => true),
            behind.Order(isFree: static _ => true));
    }

    /// <summary>One way to read.</summary>
    private sealed class Side
    {
        private readonly (SortDirection Direction, NullOrder? Nulls)[] _columns;
        private readonly SqlDialect _dialect;
        private readonly List<(int Start, int Count)> _runs = [];

        public Side((SortDirection Direction, NullOrder? Nulls)[] columns, SqlDialect dialect, bool rowValues, PageDirection direction)
        {
            _dialect = dialect;
            _columns = direction == PageDirection.Forward ? columns : Array.ConvertAll(columns, static column => (Flip(column.Direction), Flip(column.Nulls)));
            for (int i = 0; i < columns.Length; i++)
            {
                bool joins = rowValues && i > 0 && columns[i].Nulls is null && columns[i - 1].Nulls is null && columns[i].Direction == columns[i - 1].Direction;
                if (joins)
                {
                    _runs[^1] = (_runs[^1].Start, _runs[^1].Count + 1);
                }
                else
                {
                    _runs.Add((i, 1));
                }
            }
        }

        public SeekBranch[] FromTheStart()
        {
            if (!IsForeign(0))
            {
                return [new SeekBranch([], Order(isFree: static _ => true))];
            }

            SeekBranch nulls = Branch([new SeekTerm(0, 1, SeekOperator.IsNull)]);
            SeekBranch values = Branch([new SeekTerm(0, 1, SeekOperator.IsNotNull)]);
            return _columns[0].Nulls == NullOrder.First ? [nulls, values] : [values, nulls];
        }

        public SeekBranch[] From(int nullMask, bool inclusive)
        {
            var branches = new List<SeekBranch>();
            for (int i = _runs.Count - 1; i >= 0; i--)
            {
                (int start, int count) = _runs[i];
                List<SeekTerm> shared = [];
                for (int column = 0; column < start; column++)
                {
                    shared.Add(new SeekTerm(column, 1, IsNull(column) ? SeekOperator.IsNull : SeekOperator.Equal));
                }

                NullOrder? nulls = _columns[start].Nulls;
                if (nulls is not null && IsNull(start))
                {
                    branches.AddRange(nulls == NullOrder.First ? [Branch([.. shared, new SeekTerm(start, 1, SeekOperator.IsNotNull)])] : []);
                    continue;
                }

                bool orEqual = inclusive && i == _runs.Count - 1;
                SeekOperator after = _columns[start].Direction == SortDirection.Ascending
                    ? orEqual ? SeekOperator.GreaterOrEqual : SeekOperator.Greater
                    : orEqual ? SeekOperator.LessOrEqual : SeekOperator.Less;
                branches.Add(Branch([.. shared, new SeekTerm(start, count, after)]));
                branches.AddRange(nulls == NullOrder.Last ? [Branch([.. shared, new SeekTerm(start, 1, SeekOperator.IsNull)])] : []);
            }

            return [.. branches];

            bool IsNull(int column) => (nullMask >> column & 1) != 0;
        }

        public SeekOrder[] Order(Func<int, bool> isFree)
        {
            var order = new SeekOrder[_columns.Length];
            for (int i = 0; i < order.Length; i++)
            {
                // A plain index serves a column first in line, and SQLite has no other. Further on PostgreSQL has one declared with the null order, and every branch must ask for that.
                bool explicitNulls = IsForeign(i) && (isFree(i) || (_dialect == SqlDialect.PostgreSql && i > 0));
                order[i] = new SeekOrder(i, _columns[i].Direction, explicitNulls ? _columns[i].Nulls : null);
            }

            return order;
        }

        private SeekBranch Branch(SeekTerm[] terms) => new(terms, Order(column => column > terms[^1].Column));

        /// <summary>Whether nulls stand elsewhere than the database has them by itself: PostgreSQL above all values, SQLite below.</summary>
        private bool IsForeign(int column)
        {
            NullOrder own = _columns[column].Direction == SortDirection.Ascending == (_dialect == SqlDialect.PostgreSql) ? NullOrder.Last : NullOrder.First;
            return _columns[column].Nulls is NullOrder nulls && nulls != own;
        }

        private static SortDirection Flip(SortDirection direction) => direction == SortDirection.Ascending ? SortDirection.Descending : SortDirection.Ascending;

        private static NullOrder? Flip(NullOrder? nulls) => nulls is null ? null : nulls == NullOrder.First ? NullOrder.Last : NullOrder.First;
    }
}
