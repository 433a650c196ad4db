using System.Data;
using System.Data.Common;
using System.Linq.Expressions;
using System.Text;
using System.Text.Json;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Metadata;
using Microsoft.EntityFrameworkCore.Query;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore;

/// <summary>Asks the database about each branch of a page by itself, and reads its answer.</summary>
internal static class PageExplainer<T>
{
    private const string Savepoint = "keyset_explained";

    public static async Task<PageExplanation> ExplainAsync<TSource>(
        IAsyncQueryProvider provider, Expression source, SeekColumns<TSource> columns, QueryModel model, Expression item, Keyset<T> keyset, KeysetRequest<T> request, CancellationToken cancellationToken)
    {
        Seek<TSource> seek = columns.Seek(source, request, model.Dialect);
        Expression rows = columns.Rows<T>(seek, model, item);
        string sql;
        try
        {
            sql = provider.CreateQuery(rows).ToQueryString();
        }
        catch (Exception exception) when (Translation.MayHaveFailed(exception) && Translation.Blame(provider, seek, item, rows, exception) is PagedQueryException blame)
        {
            throw blame;
        }

        var branches = new List<(string Name, bool IsBounded, IQueryable Query)>();
        foreach (SeekBranch branch in seek.Plan.Page)
        {
            branches.Add((Name("the page", keyset, branch), branch.Terms.Count > 0, provider.CreateQuery(seek.Branch(branch))));
        }

        foreach (SeekBranch branch in seek.Plan.Behind)
        {
            branches.Add((Name("what is behind it", keyset, branch), branch.Terms.Count > 0, provider.CreateQuery(Expression.Call(QueryableMethods<TSource>.Take, seek.OrderedBehind(branch), Expression.Constant(1)))));
        }

        var problems = new List<string>();
        var plan = new StringBuilder();
        foreach ((string name, bool isBounded, IQueryable query) in branches)
        {
            await using DbCommand command = query.CreateDbCommand();
            (string text, List<string> found) = model.Dialect == SqlDialect.PostgreSql
                ? await PostgreSqlAsync(command, isBounded, cancellationToken).ConfigureAwait(false)
                : await SqliteAsync(command, isBounded, cancellationToken).ConfigureAwait(false);
            plan.Append("-- ").Append(name).Append('\n').Append(text).Append('\n');
            problems.AddRange(found.Select(problem => $"{char.ToUpperInvariant(name[0])}{name[1..]}: {problem}"));
        }

        return new PageExplanation(problems, problems.Count > 0 ? Index(columns, model, keyset) : null, sql, plan.ToString());
    }

    private static async Task<(string Text, List<string> Problems)> PostgreSqlAsync(DbCommand command, bool isBounded, CancellationToken cancellationToken)
    {
        bool isOpen = command.Connection!.State == ConnectionState.Open;
        if (!isOpen)
        {
            await command.Connection.OpenAsync(cancellationToken).ConfigureAwait(false);
        }

        DbTransaction? own = command.Transaction is null ? await command.Connection.BeginTransactionAsync(cancellationToken).ConfigureAwait(false) : null;
        command.Transaction ??= own;
        DbTransaction transaction = command.Transaction!;
        try
        {
            await transaction.SaveAsync(Savepoint, cancellationToken).ConfigureAwait(false);
            try
            {
                await using (DbCommand settings = command.Connection.CreateCommand())
                {
                    settings.Transaction = transaction;
                    settings.CommandText = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_incremental_sort = off";
                    await settings.ExecuteNonQueryAsync(cancellationToken).ConfigureAwait(false);
                }

                command.CommandText = "EXPLAIN (FORMAT JSON, COSTS OFF) " + command.CommandText;
                string json = (string)(await command.ExecuteScalarAsync(cancellationToken).ConfigureAwait(false))!;
                using JsonDocument document = JsonDocument.Parse(json);
                var lines = new List<string>();
                var problems = new List<string>();
                bool isCondition = false;
                Walk(document.RootElement[0].GetProperty("Plan"), 0, lines, problems, ref isCondition);
                if (isBounded && !isCondition && problems.Count == 0)
                {
                    problems.Add("no index is entered at the position; its rows are read from one end on.");
                }

                return (string.Join('\n', lines), problems);
            }
            finally
            {
                // What was set is undone, and nothing else of a transaction that the caller began.
                await transaction.RollbackAsync(Savepoint, CancellationToken.None).ConfigureAwait(false);
            }
        }
        finally
        {
            if (own is not null)
            {
                await own.DisposeAsync().ConfigureAwait(false);
            }

            if (!isOpen)
            {
                await command.Connection.CloseAsync().ConfigureAwait(false);
            }
        }
    }

    private static void Walk(JsonElement node, int depth, List<string> lines, List<string> problems, ref bool isCondition)
    {
        string type = node.GetProperty("Node Type").GetString()!;
        string table = node.TryGetProperty("Relation Name", out JsonElement relation) ? " on " + relation.GetString() : "";
        string index = node.TryGetProperty("Index Name", out JsonElement name) ? " using " + name.GetString() : "";
        string condition = node.TryGetProperty("Index Cond", out JsonElement cond) ? " " + cond.GetString() : "";
        string filter = node.TryGetProperty("Filter", out JsonElement filtered) ? " filter " + filtered.GetString() : "";
        lines.Add($"{new string(' ', 2 * depth)}{type}{index}{table}{condition}{filter}");
        isCondition |= condition.Length > 0;
        switch (type)
        {
            case "Seq Scan":
                problems.Add($"the table{table[3..].Insert(0, " ")} is scanned.");
                break;
            case "Sort" or "Incremental Sort":
                problems.Add("the rows are sorted.");
                break;
            case "Bitmap Heap Scan":
                problems.Add("an index is read whole, as a bitmap.");
                break;
        }

        if (node.TryGetProperty("Plans", out JsonElement below))
        {
            foreach (JsonElement child in below.EnumerateArray())
            {
                Walk(child, depth + 1, lines, problems, ref isCondition);
            }
        }
    }

    private static async Task<(string Text, List<string> Problems)> SqliteAsync(DbCommand command, bool isBounded, CancellationToken cancellationToken)
    {
        bool isOpen = command.Connection!.State == ConnectionState.Open;
        if (!isOpen)
        {
            await command.Connection.OpenAsync(cancellationToken).ConfigureAwait(false);
        }

        try
        {
            command.CommandText = "EXPLAIN QUERY PLAN " + command.CommandText;
            var lines = new List<string>();
            var problems = new List<string>();
            await using DbDataReader reader = await command.ExecuteReaderAsync(cancellationToken).ConfigureAwait(false);
            while (await reader.ReadAsync(cancellationToken).ConfigureAwait(false))
            {
                lines.Add(reader.GetString(3));
            }

            if (lines.Exists(static line => line.Contains("TEMP B-TREE", StringComparison.Ordinal)))
            {
                problems.Add("the rows are sorted.");
            }

            if (isBounded && !lines[0].StartsWith("SEARCH ", StringComparison.Ordinal))
            {
                problems.Add("no index is entered at the position; the table is scanned.");
            }

            return (string.Join('\n', lines), problems);
        }
        finally
        {
            if (!isOpen)
            {
                await command.Connection.CloseAsync().ConfigureAwait(false);
            }
        }
    }

    private static string Name(string what, Keyset<T> keyset, SeekBranch branch) => branch.Terms.Count == 0
        ? what
        : $"{what} where {string.Join(" and ", branch.Terms.Select(term => $"{keyset.Columns[term.Column].Name} {Sign(term.Operator)}"))}";

    private static string Sign(SeekOperator comparison) => comparison switch
    {
        SeekOperator.Equal => "= key",
        SeekOperator.Less => "< key",
        SeekOperator.LessOrEqual => "<= key",
        SeekOperator.Greater => "> key",
        SeekOperator.GreaterOrEqual => ">= key",
        SeekOperator.IsNull => "is null",
        _ => "is not null",
    };

    private static string Index<TSource>(SeekColumns<TSource> columns, QueryModel model, Keyset<T> keyset)
    {
        IEnumerable<string> parts = columns.Columns.Select((column, i) => $"{ColumnOf(column, model)}{(keyset.Columns[i].Direction == SortDirection.Descending ? " DESC" : "")}");
        return $"{model.EntityType?.GetTableName() ?? typeof(TSource).Name} ({string.Join(", ", parts)})";
    }

    private static string ColumnOf<TSource>(KeyColumn<TSource> column, QueryModel model) =>
        column.Key is MemberExpression { Expression: ParameterExpression } member && model.EntityType?.FindProperty(member.Member.Name) is IProperty property ? property.GetColumnName() : column.Name;
}
