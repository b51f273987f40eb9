"""The tickets' own stack as its tutorials write it: FastAPI, the synchronous ORM on psycopg2, Pydantic.

The schema, the queries and the checks are the project's. Handlers are plain functions, each run in a thread.
"""

import os
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated

import jwt
from argon2.exceptions import VerifyMismatchError
from fastapi import Depends, FastAPI, HTTPException, Query, status
from fastapi.security import OAuth2PasswordBearer, OAuth2PasswordRequestForm
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import BigInteger, DateTime, ForeignKey, String, Text, create_engine, func, or_
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, sessionmaker

from benchmarks import tokens
from benchmarks.passwords import hasher

engine = create_engine(os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg2://"))
SessionLocal = sessionmaker(bind=engine, autoflush=False)
oauth2_scheme = OAuth2PasswordBearer(tokenUrl="token")
app = FastAPI(title="Backend API", version="1.0.0")


def now() -> datetime:
    return datetime.now(UTC)


class Base(DeclarativeBase):
    type_annotation_map = {int: BigInteger, datetime: DateTime(timezone=True)}


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(String(64))
    email: Mapped[str] = mapped_column(String(320))
    username_key: Mapped[str] = mapped_column(String(64))
    email_key: Mapped[str] = mapped_column(String(640))
    hashed_password: Mapped[str] = mapped_column(String(255))
    is_active: Mapped[bool] = mapped_column(default=True)
    is_superuser: Mapped[bool] = mapped_column(default=False)
    email_verified: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)
    items: Mapped[list["Item"]] = relationship(back_populates="owner")


class UserSession(Base):
    __tablename__ = "sessions"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    device: Mapped[str] = mapped_column(String(256), default="")
    address: Mapped[str] = mapped_column(String(64), default="")
    generation: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(default=now)
    last_used_at: Mapped[datetime] = mapped_column(default=now)
    refreshed_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]


class Item(Base):
    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(200))
    description: Mapped[str | None] = mapped_column(String(10_000))
    search_text: Mapped[str] = mapped_column(Text)
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)
    version: Mapped[int] = mapped_column(default=1)
    owner: Mapped[User] = relationship(back_populates="items")


class UserRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    username: str
    email: str
    is_active: bool
    is_superuser: bool
    email_verified: bool
    created_at: datetime


class ItemCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: str = Field(min_length=1, max_length=200)
    description: str | None = Field(default=None, max_length=10_000)


class ItemRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    title: str
    description: str | None
    owner_id: int
    created_at: datetime
    updated_at: datetime


class Token(BaseModel):
    access_token: str
    token_type: str
    expires_in: int


def get_db() -> Iterator[Session]:
    db = SessionLocal()
    try:
        yield db
    finally:
        db.close()


def get_current_user(token: Annotated[str, Depends(oauth2_scheme)], db: Annotated[Session, Depends(get_db)]) -> User:
    refused = HTTPException(
        status_code=status.HTTP_401_UNAUTHORIZED,
        detail="Could not validate credentials",
        headers={"WWW-Authenticate": "Bearer"},
    )
    try:
        session_id, user_id = tokens.verify(token)
    except jwt.InvalidTokenError as error:
        raise refused from error
    user = get_signed_in_user(db, session_id, user_id)
    if user is None:
        raise refused
    return user


def get_signed_in_user(db: Session, session_id: int, user_id: int) -> User | None:
    return (
        db.query(User)
        .join(UserSession, UserSession.user_id == User.id)
        .filter(UserSession.id == session_id, User.id == user_id)
        .filter(UserSession.expires_at > func.now(), User.is_active)
        .first()
    )


def authenticate_user(db: Session, username: str, password: str) -> User | None:
    name = username.lower()
    user = db.query(User).filter(or_(User.username_key == name, User.email_key == name)).first()
    if user is None or not user.is_active:
        return None
    try:
        hasher.verify(user.hashed_password, password)
    except VerifyMismatchError:
        return None
    return user


def create_session(db: Session, user: User) -> UserSession:
    session = UserSession(id=secrets.randbits(63), user_id=user.id, expires_at=now() + timedelta(days=30))
    db.add(session)
    db.commit()
    db.refresh(session)
    return session


def get_items(db: Session, owner: User, limit: int) -> list[Item]:
    return db.query(Item).filter(Item.owner_id == owner.id).order_by(Item.id.desc()).limit(limit).all()


def create_item(db: Session, owner: User, data: ItemCreate) -> Item:
    search_text = "\n".join(text.casefold() for text in (data.title, data.description) if text)
    item = Item(**data.model_dump(), search_text=search_text, owner_id=owner.id)
    db.add(item)
    db.commit()
    db.refresh(item)
    return item


@app.post("/token")
def login(form: Annotated[OAuth2PasswordRequestForm, Depends()], db: Annotated[Session, Depends(get_db)]) -> Token:
    user = authenticate_user(db, form.username, form.password)
    if user is None:
        raise HTTPException(
            status_code=status.HTTP_401_UNAUTHORIZED,
            detail="Incorrect username or password",
            headers={"WWW-Authenticate": "Bearer"},
        )
    session = create_session(db, user)
    access_token = tokens.issue(user_id=session.user_id, session_id=session.id)
    return Token(access_token=access_token, token_type="bearer", expires_in=tokens.LIFETIME)


@app.get("/users/me", response_model=UserRead)
def read_users_me(current_user: Annotated[User, Depends(get_current_user)]) -> User:
    return current_user


@app.get("/items/", response_model=list[ItemRead])
def read_items(
    current_user: Annotated[User, Depends(get_current_user)],
    db: Annotated[Session, Depends(get_db)],
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> list[Item]:
    return get_items(db, current_user, limit)


@app.post("/items/", response_model=ItemRead, status_code=status.HTTP_201_CREATED)
def create_new_item(
    data: ItemCreate,
    current_user: Annotated[User, Depends(get_current_user)],
    db: Annotated[Session, Depends(get_db)],
) -> Item:
    return create_item(db, current_user, data)


@app.get("/health/live")
def live() -> dict[str, str]:
    return {"status": "ok"}
