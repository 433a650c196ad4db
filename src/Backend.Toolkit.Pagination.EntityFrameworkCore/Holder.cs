namespace Backend.Toolkit.Pagination.EntityFrameworkCore;

/// <summary>Holds a key as a closure would, so that Entity Framework makes a parameter of it and not a constant.</summary>
internal sealed class Holder<TKey>(TKey key)
{
    // Named as the parameter in SQL is.
    public readonly TKey Key = key;
}
