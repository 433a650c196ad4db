using System.Linq.Expressions;
using System.Reflection;
using System.Runtime.CompilerServices;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Metadata;
using Microsoft.EntityFrameworkCore.Storage;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore;

/// <summary>The columns of a keyset over the rows of a query, each found good: the database orders it as it compares it, and it is not null where the keyset says that it is not.</summary>
internal static class KeysetColumns<T>
{
    private static readonly ConditionalWeakTable<Keyset<T>, ConditionalWeakTable<object, SeekColumns<T>>> Known = [];
    private static readonly ConditionalWeakTable<Keyset<T>, ConditionalWeakTable<object, SeekColumns<T>>>.CreateValueCallback MakeTable = static _ => [];

    /// <summary>Those of a query whose rows are the keyset's own: made once for each keyset and model.</summary>
    public static SeekColumns<T> Of(Keyset<T> keyset, QueryModel model, Expression query)
    {
        ConditionalWeakTable<object, SeekColumns<T>> known = Known.GetValue(keyset, MakeTable);
        if (model.EntityType is null)
        {
            return Make<T>(keyset, model, query, static column => Inlining.Inline(column.Key, KeyColumn<T>.Row));
        }

        return known.TryGetValue(model.EntityType, out SeekColumns<T>? columns)
            ? columns
            : known.GetValue(model.EntityType, _ => Make<T>(keyset, model, query, static column => Inlining.Inline(column.Key, KeyColumn<T>.Row)));
    }

    /// <summary>Those of a query whose rows are made of others by a projection: the keyset's keys, seen through it.</summary>
    public static SeekColumns<TSource> Of<TSource>(Keyset<T> keyset, QueryModel model, Expression query, Expression<Func<TSource, T>> projection)
    {
        Expression row = Inlining.Inline(projection, KeyColumn<TSource>.Row);
        return Make<TSource>(keyset, model, query, column =>
        {
            try
            {
                return Inlining.Inline(column.Key, row);
            }
            catch (UnreachableKeyException)
            {
                throw new PagedQueryException("Select", $"Column {column.Name}: the projection makes {typeof(T).Name} by a constructor, so its {column.Key.Body} cannot be found in the database. Page the rows before the projection, and give it as select: ToPageAsync(…, select).");
            }
        });
    }

    private static SeekColumns<TSource> Make<TSource>(Keyset<T> keyset, QueryModel model, Expression query, Func<KeysetColumn<T>, Expression> key) =>
        SeekColumns<TSource>.Of([.. keyset.Columns.Select(column => Make<TSource>(column, model, query, key(column)))]);

    private static KeyColumn<TSource> Make<TSource>(KeysetColumn<T> column, QueryModel model, Expression query, Expression key)
    {
        IProperty? property = PropertyOf(key, model.EntityType, KeyColumn<TSource>.Row).Property;
        if (!column.IsNullable && MayBeNull(key, model, query, KeyColumn<TSource>.Row))
        {
            throw new PagedQueryException(column.Name, $"Column {column.Name} may be null in the database, and the keyset says that it is not; rows without a value would be lost. Say nulls: NullOrder.First or NullOrder.Last, make the property required, or compute the key with ?? from what may be null.");
        }

        RelationalTypeMapping? mapping = property?.GetRelationalTypeMapping();
        Type stored = mapping?.Converter?.ProviderClrType ?? mapping?.ClrType ?? column.KeyType;
        if (model.Dialect == SqlDialect.Sqlite && Objection(Nullable.GetUnderlyingType(stored) ?? stored) is string objection)
        {
            throw new PagedQueryException(column.Name, $"Column {column.Name}: {objection}");
        }

        return (KeyColumn<TSource>)typeof(KeysetColumns<T>).GetMethod(nameof(New), BindingFlags.Static | BindingFlags.NonPublic)!.MakeGenericMethod(typeof(TSource), column.KeyType)
            .Invoke(null, [column, key, model.Dialect, mapping])!;
    }

    private static KeyColumn<TSource, TKey> New<TSource, TKey>(KeysetColumn<T> column, Expression key, SqlDialect dialect, RelationalTypeMapping? mapping) =>
        new(column.Name, key, StoredValue.Rounding<TKey>(dialect, mapping, column.DatabaseType));

    private static string? Objection(Type stored) => stored == typeof(decimal)
        ? "SQLite keeps decimals as text, and orders 10 before 9. Keep the number scaled in a long (a value converter), or as double."
        : stored == typeof(DateTimeOffset)
            ? "SQLite keeps a DateTimeOffset as text with its offset, and orders by the local time. Take a DateTime in UTC, or keep ticks or Unix milliseconds in a long (a value converter)."
            : stored == typeof(TimeSpan)
                ? "SQLite keeps a TimeSpan as text, and orders 1.00:00:00 before 23:00:00. Keep its ticks in a long (a value converter)."
                : stored == typeof(ulong)
                    ? "SQLite has no integers above 2^63 - 1, and orders those of a ulong as negative. Take a long."
                    : null;

    /// <summary>The same of rows that are no entities: seen through what made them of entities.</summary>
    private static bool MayBeNull(Expression key, QueryModel model, Expression query, ParameterExpression row)
    {
        IEntityType? entityType = model.EntityType;
        while (entityType is null && Peeled.Maker(ref query) is LambdaExpression maker)
        {
            bool isGroup = Peeled.IsGroup(row.Type);
            if (isGroup && (key is not MemberExpression { Member.Name: nameof(IGrouping<,>.Key) } member || member.Expression != row))
            {
                return false;
            }

            try
            {
                key = isGroup ? maker.Body : new Inlining(row, maker.Body).Visit(key);
            }
            catch (UnreachableKeyException)
            {
                return false;
            }

            row = maker.Parameters[0];
            entityType = model.Model.FindEntityType(row.Type);
        }

        return MayBeNull(key, entityType, row);
    }

    /// <summary>Whether the database may have no value there: SQL makes nothing of nothing, except where LINQ says what else.</summary>
    private static bool MayBeNull(Expression? key, IEntityType? entityType, ParameterExpression row)
    {
        if (key is null)
        {
            return false;
        }

        (IProperty? property, bool isOptional) = PropertyOf(key, entityType, row);
        return property is not null ? isOptional || property.IsNullable : key switch
        {
            BinaryExpression { NodeType: ExpressionType.Coalesce } coalesce => MayBeNull(coalesce.Right, entityType, row),
            BinaryExpression both => both.Type != typeof(bool) && both.Type != typeof(string) && (MayBeNull(both.Left, entityType, row) || MayBeNull(both.Right, entityType, row)),
            ConditionalExpression either => MayBeNull(either.IfTrue, entityType, row) || MayBeNull(either.IfFalse, entityType, row),
            UnaryExpression unary => unary.NodeType != ExpressionType.Quote && MayBeNull(unary.Operand, entityType, row),
            MemberExpression member => member.Member.Name != nameof(Nullable<>.HasValue) && MayBeNull(member.Expression, entityType, row),
            MethodCallExpression { Method.Name: nameof(Nullable<>.GetValueOrDefault) or nameof(string.IsNullOrEmpty) or nameof(string.IsNullOrWhiteSpace) or nameof(string.Concat) or nameof(Equals) } => false,
            MethodCallExpression call => MayBeNull(call.Object, entityType, row) || call.Arguments.Any(argument => MayBeNull(argument, entityType, row)),
            _ => false,
        };
    }

    /// <summary>The mapped property that a key is, and whether it is reached by a reference that may lead nowhere.</summary>
    private static (IProperty? Property, bool IsOptional) PropertyOf(Expression key, IEntityType? entityType, ParameterExpression row)
    {
        (ITypeBase? owner, string? name, bool isOptional) = Step(key, entityType, row);
        return (owner is not null && name is not null ? owner.FindProperty(name) : null, isOptional);
    }

    private static (ITypeBase? Owner, string? Name, bool IsOptional) Step(Expression key, IEntityType? entityType, ParameterExpression row)
    {
        (Expression? owner, string? name) = key switch
        {
            MemberExpression { Expression: Expression expression } member => (expression, member.Member.Name),
            MethodCallExpression { Method: { Name: nameof(EF.Property) } method, Arguments: [Expression expression, ConstantExpression { Value: string property }] } when method.DeclaringType == typeof(EF) => (expression, property),
            _ => (null, null),
        };
        if (owner is null || name is null)
        {
            return key is UnaryExpression { NodeType: ExpressionType.Convert } conversion ? Step(conversion.Operand, entityType, row) : default;
        }

        // Of a derived type: rows of the others have no value.
        ITypeBase? cast = null;
        while (owner is UnaryExpression { NodeType: ExpressionType.Convert or ExpressionType.TypeAs } inner)
        {
            cast ??= entityType?.Model.FindEntityType(inner.Type);
            owner = inner.Operand;
        }

        if (owner == row)
        {
            return Cast(entityType, isOptional: false);
        }

        (ITypeBase? before, string? via, bool isOptional) = Step(owner, entityType, row);
        if (before is null || via is null)
        {
            return default;
        }

        if ((before as IEntityType)?.FindNavigation(via) is INavigation navigation)
        {
            return Cast(navigation.TargetEntityType, isOptional || !(navigation.IsOnDependent ? navigation.ForeignKey.IsRequired : navigation.ForeignKey.IsRequiredDependent));
        }

        return before.FindComplexProperty(via) is IComplexProperty complex ? (complex.ComplexType, name, isOptional || complex.IsNullable) : default;

        (ITypeBase?, string?, bool) Cast(IEntityType? type, bool isOptional) => type is not null && cast is IEntityType derived && derived != type && type.IsAssignableFrom(derived) ? (derived, name, true) : (type, name, isOptional);
    }
}
