namespace Backend.Toolkit.Pagination;

/// <summary>Pages of what is in memory.</summary>
public static class KeysetEnumerableExtensions
{
    /// <summary>A page of items in any order: one pass over all of them, keeping no more than the page.</summary>
    /// <typeparam name="T">An item.</typeparam>
    /// <param name="source">The items. A query of a database is refused: it would be read as a whole.</param>
    /// <param name="paginator">Opens and seals cursors.</param>
    /// <param name="keyset">The order.</param>
    /// <param name="request">What is asked for.</param>
    /// <param name="scope">As for <see cref="CursorPaginator.Open{T}"/>.</param>
    /// <returns>The page.</returns>
    /// <exception cref="InvalidCursorException">The cursor is not one of this keyset and scope.</exception>
    /// <exception cref="InvalidPageSizeException">The size is negative, or above the maximum where such are refused.</exception>
    public static Page<T> ToPage<T>(this IEnumerable<T> source, CursorPaginator paginator, Keyset<T> keyset, PageRequest request, string? scope = null)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(paginator);
        if (source is IQueryable and not EnumerableQuery)
        {
            throw new NotSupportedException("ToPage reads all items in memory, and this is a query. Page it where it runs: ToPageAsync of Backend.Toolkit.Pagination.EntityFrameworkCore.");
        }

        KeysetRequest<T> opened = paginator.Open(keyset, request, scope);
        var gap = new Gap<T>(opened);
        bool isForward = opened.Direction == PageDirection.Forward;

        // The heap's first is the one that gives way: the furthest in the direction of reading.
        var nearest = new PriorityQueue<T, T>(isForward ? Comparer<T>.Create((left, right) => keyset.Compare(right, left)) : keyset);
        bool more = false;
        bool behind = false;
        long total = 0;
        foreach (T item in source)
        {
            total++;
            if (gap.IsBefore(item) != isForward)
            {
                behind = true;
            }
            else if (nearest.Count < opened.Size)
            {
                nearest.Enqueue(item, item);
            }
            else
            {
                more = true;
                nearest.EnqueueDequeue(item, item);
            }
        }

        var items = new T[nearest.Count];
        for (int i = 0; i < items.Length; i++)
        {
            items[isForward ? items.Length - 1 - i : i] = nearest.Dequeue();
        }

        return WithTotal(opened.Complete(items, more, behind), opened, total);
    }

    /// <summary>A page of items that are in the keyset's order already (<c>list.Sort(keyset)</c>): a binary search, not a scan. Items in another order give wrong pages.</summary>
    /// <typeparam name="T">An item.</typeparam>
    /// <param name="source">The items, sorted.</param>
    /// <param name="paginator">Opens and seals cursors.</param>
    /// <param name="keyset">The order.</param>
    /// <param name="request">What is asked for.</param>
    /// <param name="scope">As for <see cref="CursorPaginator.Open{T}"/>.</param>
    /// <returns>The page.</returns>
    /// <exception cref="InvalidCursorException">The cursor is not one of this keyset and scope.</exception>
    /// <exception cref="InvalidPageSizeException">The size is negative, or above the maximum where such are refused.</exception>
    public static Page<T> ToPageOfSorted<T>(this IReadOnlyList<T> source, CursorPaginator paginator, Keyset<T> keyset, PageRequest request, string? scope = null)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(paginator);
        KeysetRequest<T> opened = paginator.Open(keyset, request, scope);
        int position = opened.HasPosition ? new Gap<T>(opened).IndexIn(source) : opened.Direction == PageDirection.Forward ? 0 : source.Count;
        (int start, int end) = opened.Direction == PageDirection.Forward
            ? (position, (int)Math.Min((long)position + opened.Size, source.Count))
            : (Math.Max(0, position - opened.Size), position);
        var items = new T[end - start];
        for (int i = 0; i < items.Length; i++)
        {
            items[i] = source[start + i];
        }

        (bool before, bool after) = (start > 0, end < source.Count);
        (bool more, bool behind) = opened.Direction == PageDirection.Forward ? (after, before) : (before, after);
        return WithTotal(opened.Complete(items, more, behind), opened, source.Count);
    }

    private static Page<T> WithTotal<T>(Page<T> page, in KeysetRequest<T> request, long total) => request.TotalLimit switch
    {
        null => page,
        long limit when total > limit => page.WithTotal(new PageTotal(limit, IsCapped: true)),
        _ => page.WithTotal(new PageTotal(total, IsCapped: false)),
    };

    /// <summary>The position of a request, between two items.</summary>
    private readonly struct Gap<T>
    {
        private readonly Keyset<T> _keyset;
        private readonly KeyBound<T>[]? _bounds;
        private readonly bool _equalIsBefore;
        private readonly bool _isAtStart;

        public Gap(in KeysetRequest<T> request)
        {
            _keyset = request.Keyset;
            _isAtStart = request.Direction == PageDirection.Forward;
            _bounds = request.HasPosition ? request.Bounds() : null;
            _equalIsBefore = request.IncludesPosition == (request.Direction == PageDirection.Forward);
        }

        /// <summary>Whether the gap comes before an item.</summary>
        public bool IsBefore(T item)
        {
            if (_bounds is null)
            {
                return _isAtStart;
            }

            for (int i = 0; i < _bounds.Length; i++)
            {
                int order = _bounds[i].CompareTo(item);
                if (order != 0)
                {
                    KeysetColumn<T> column = _keyset.Span[i];
                    return Keyset<T>.Oriented(column, order, column.IsNullable && (_bounds[i].IsNull || column.Access.IsMissing(item))) < 0;
                }
            }

            return _equalIsBefore;
        }

        public int IndexIn(IReadOnlyList<T> sorted)
        {
            (int low, int high) = (0, sorted.Count);
            while (low < high)
            {
                int middle = low + ((high - low) / 2);
                if (IsBefore(sorted[middle]))
                {
                    high = middle;
                }
                else
                {
                    low = middle + 1;
                }
            }

            return low;
        }
    }
}
