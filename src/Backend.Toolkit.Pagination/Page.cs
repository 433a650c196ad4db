using System.Text.Json.Serialization;

namespace Backend.Toolkit.Pagination;

/// <summary>
/// A page: its items in the keyset's order, and cursors to what comes before and after. As JSON, whatever the naming policy: <c>{ "items": [...], "next": "...", "previous": null }</c>, with a <c>total</c> where one
/// was counted.
/// </summary>
/// <typeparam name="T">An item.</typeparam>
public sealed class Page<T>
{
    /// <summary>A page of those items.</summary>
    /// <param name="items">The items, in the keyset's order.</param>
    /// <param name="next">The cursor of the next page; null: there is none.</param>
    /// <param name="previous">The cursor of the previous page; null: there is none.</param>
    /// <param name="total">How many rows all pages have; null: not counted.</param>
    public Page(IReadOnlyList<T> items, string? next, string? previous, PageTotal? total = null)
    {
        ArgumentNullException.ThrowIfNull(items);
        Items = items;
        Next = next;
        Previous = previous;
        Total = total;
    }

    /// <summary>The items, in the keyset's order whichever way the page was read. Empty when what the cursor pointed at is gone, and nothing follows.</summary>
    [JsonPropertyName("items")]
    public IReadOnlyList<T> Items { get; }

    /// <summary>The cursor of the next page; null exactly when no row followed this page as it was read.</summary>
    [JsonPropertyName("next")]
    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public string? Next { get; }

    /// <summary>The cursor of the previous page; null exactly when no row came before this page as it was read.</summary>
    [JsonPropertyName("previous")]
    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public string? Previous { get; }

    /// <summary>How many rows all pages have; null: not counted.</summary>
    [JsonPropertyName("total")]
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public PageTotal? Total { get; }

    /// <summary>The same page with that total.</summary>
    /// <param name="total">How many rows all pages have.</param>
    /// <returns>The page.</returns>
    public Page<T> WithTotal(PageTotal? total) => new(Items, Next, Previous, total);
}
