using System.Collections.Concurrent;
using System.Globalization;
using System.Text;

namespace Backend.Toolkit.Pagination;

/// <summary>
/// The SQL of a keyset's pages, each text made once: the values are parameters, and the number of rows stands in the text, so that a database plans for it. Bounded: an application that puts
/// values into its SQL would else fill the memory.
/// </summary>
internal sealed class KeysetTexts
{
    public const int Most = 512;

    private readonly ConcurrentDictionary<(SeekPlan Plan, SqlDialect Dialect, int Size, string Sql), string> _texts = new();

    public int Count => _texts.Count;

    public string Find<T>(Keyset<T> keyset, SeekPlan plan, SqlDialect dialect, int size, string sql)
    {
        if (_texts.TryGetValue((plan, dialect, size, sql), out string? text))
        {
            return text;
        }

        if (_texts.Count >= Most)
        {
            _texts.Clear();
        }

        string made = new KeysetText<T>(keyset, dialect, sql).Page(plan, size + 1);
        return _texts.GetOrAdd((plan, dialect, size, sql), made);
    }
}

/// <summary>Writes SQL.</summary>
internal sealed class KeysetText<T>(Keyset<T> keyset, SqlDialect dialect, string sql)
{
    public const string Behind = "keyset_behind";

    private const string ParameterStart = "keyset";

    private readonly StringBuilder _text = new();

    public static string Parameter(int column) => string.Create(CultureInfo.InvariantCulture, $"{ParameterStart}{column}");

    public string Page(SeekPlan plan, int limit)
    {
        if (sql.AsSpan().TrimEnd().EndsWith(';'))
        {
            throw new ArgumentException("The SELECT must not end with a semicolon: it becomes part of a statement.");
        }

        if (HasOurParameter(sql))
        {
            throw new ArgumentException($"The SELECT has a parameter called {ParameterStart} and a number: those are the position's. Give it another name.");
        }

        foreach (KeysetColumn<T> column in keyset.Columns)
        {
            if (column.Access.Objection(dialect) is string objection)
            {
                throw new NotSupportedException($"Column {column.Name}: {objection}.");
            }
        }

        if (dialect == SqlDialect.Sqlite)
        {
            Sqlite(plan, limit);
        }
        else
        {
            PostgreSql(plan, limit);
        }

        return _text.ToString();
    }

    /// <summary>The caller's value would be replaced by the position's from the second page on. In a literal it does no harm, and is refused all the same.</summary>
    private static bool HasOurParameter(ReadOnlySpan<char> sql)
    {
        for (int at; (at = sql.IndexOf(ParameterStart, StringComparison.OrdinalIgnoreCase)) >= 0; sql = sql[(at + ParameterStart.Length)..])
        {
            int end = at + ParameterStart.Length;
            if (at > 0 && sql[at - 1] is '@' or ':' && end < sql.Length && char.IsAsciiDigit(sql[end]))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Each branch with its own order and limit: PostgreSQL pushes neither of them into a UNION ALL. Then the few rows are put in order.</summary>
    private void PostgreSql(SeekPlan plan, int limit)
    {
        if (plan.Page.Count == 1 && plan.Behind.Count == 0)
        {
            Branch(plan.Page[0], behind: false);
            Order(plan.Page[0].Order, "k.");
            Limit(limit);
            return;
        }

        _text.Append("SELECT * FROM (\n");
        bool isFirst = true;
        foreach ((SeekBranch branch, bool behind) in plan.Page.Select(static branch => (branch, false)).Concat(plan.Behind.Select(static branch => (branch, true))))
        {
            _text.Append(isFirst ? "(" : "\nUNION ALL\n(");
            isFirst = false;
            Branch(branch, behind);
            Order(branch.Order, "k.");
            Limit(behind ? 1 : limit);
            _text.Append(')');
        }

        _text.Append("\n) AS k");
        Order(plan.Order, "k.", first: Behind + " DESC, ");
        Limit(limit + plan.Behind.Count);
    }

    /// <summary>Plain branches under one order and limit: SQLite merges them as they come from the index.</summary>
    private void Sqlite(SeekPlan plan, int limit)
    {
        _text.Append(plan.Behind.Count > 0 ? "SELECT * FROM (\n" : "");
        Compound(plan.Page, plan.Order, behind: false, limit);
        if (plan.Behind.Count > 0)
        {
            _text.Append("\n) UNION ALL SELECT * FROM (\n");
            Compound(plan.Behind, plan.OrderBehind, behind: true, limit: 1);
            _text.Append("\n)");
        }
    }

    private void Compound(IReadOnlyList<SeekBranch> branches, IReadOnlyList<SeekOrder> order, bool behind, int limit)
    {
        for (int i = 0; i < branches.Count; i++)
        {
            _text.Append(i > 0 ? "\nUNION ALL\n" : "");
            Branch(branches[i], behind);
        }

        // The order of a compound names its result columns; that of one branch need not put nulls anywhere when they are split off.
        Order(branches.Count > 1 ? order : branches[0].Order, branches.Count > 1 ? "" : "k.");
        Limit(limit);
    }

    private void Branch(SeekBranch branch, bool behind)
    {
        _text.Append(CultureInfo.InvariantCulture, $"SELECT k.*, {(behind ? 1 : 0)} AS {Behind} FROM (\n{sql}\n) AS k");
        for (int i = 0; i < branch.Terms.Count; i++)
        {
            _text.Append(i == 0 ? "\nWHERE " : " AND ");
            Term(branch.Terms[i]);
        }
    }

    private void Term(SeekTerm term)
    {
        if (term.Operator is SeekOperator.IsNull or SeekOperator.IsNotNull)
        {
            Name(term.Column, "k.");
            _text.Append(term.Operator == SeekOperator.IsNull ? " IS NULL" : " IS NOT NULL");
            return;
        }

        _text.Append(term.Count > 1 ? "(" : "");
        for (int i = 0; i < term.Count; i++)
        {
            _text.Append(i > 0 ? ", " : "");
            Name(term.Column + i, "k.");
        }

        _text.Append(term.Count > 1 ? ")" : "");
        _text.Append(term.Operator switch
        {
            SeekOperator.Equal => " = ",
            SeekOperator.Less => " < ",
            SeekOperator.LessOrEqual => " <= ",
            SeekOperator.Greater => " > ",
            _ => " >= ",
        });
        _text.Append(term.Count > 1 ? "(" : "");
        for (int i = 0; i < term.Count; i++)
        {
            _text.Append(i > 0 ? ", " : "");
            string? type = keyset.Columns[term.Column + i].DatabaseType;
            _text.Append(type is null ? "@" : "CAST(@").Append(Parameter(term.Column + i)).Append(type is null ? "" : $" AS {type})");
        }

        _text.Append(term.Count > 1 ? ")" : "");
    }

    private void Order(IReadOnlyList<SeekOrder> order, string prefix, string first = "")
    {
        _text.Append("\nORDER BY ").Append(first);
        for (int i = 0; i < order.Count; i++)
        {
            _text.Append(i > 0 ? ", " : "");
            Name(order[i].Column, prefix);
            _text.Append(order[i].Direction == SortDirection.Descending ? " DESC" : "");
            _text.Append(order[i].Nulls switch { NullOrder.First => " NULLS FIRST", NullOrder.Last => " NULLS LAST", _ => "" });
        }
    }

    private void Limit(int rows) => _text.Append(CultureInfo.InvariantCulture, $"\nLIMIT {rows}");

    private void Name(int column, string prefix) => _text.Append(prefix).Append('"').Append(keyset.Columns[column].Name.Replace("\"", "\"\"", StringComparison.Ordinal)).Append('"');
}
