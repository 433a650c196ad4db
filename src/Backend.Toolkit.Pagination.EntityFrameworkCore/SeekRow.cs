namespace Backend.Toolkit.Pagination.EntityFrameworkCore;

/// <summary>What is read for each row: the item, the keys as the database has them, and (the same in all rows) whether there is a row behind the position.</summary>
internal sealed class SeekRow<TItem, TKeys>(TItem item, TKeys keys, int? behind)
{
    public TItem Item { get; } = item;

    public TKeys Keys { get; } = keys;

    public int? Behind { get; } = behind;

    /// <summary>One of the keys; asked only of the rows at the ends of a page.</summary>
    public object? Key(int column, int count)
    {
        object? keys = Keys;
        for (int i = 0; i < column; i++)
        {
            keys = ((IPair)keys!).Tail;
        }

        return column == count - 1 ? keys : ((IPair)keys!).Head;
    }
}
